"""Gemma 2 (Gemma Team, 2024): norms around each block, capped scores, a window in every second layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.layers.mlp import Activation
from octavo.layers.norm import Norm
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.models.base import Tables
from octavo.models.blocks import Block, DecoderStack, SandwichBlock
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.decoder_config import StackedDecoderConfig
from octavo.models.projections import attention_projections, gated_projections
from octavo.models.read_spec import read_spec
from octavo.models.sliding_window import full_attention_every, window_by_kind

STEM = "Gemma2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma2Config(StackedDecoderConfig):
    activation: Activation
    has_attention_biases: bool
    attention_scale: float
    attention_softcap: float | None
    logits_softcap: float | None

    @classmethod
    def read(cls, reader: ConfigReader) -> Gemma2Config:
        reader.refuse_others("use_bidirectional_attention", False, None)
        # First releases name these two twice, and the other name counts.
        reader.skip("hidden_act", "sliding_window_size")
        kinds = full_attention_every(reader, 2)
        return cls(
            spec=read_spec(
                reader,
                windows=window_by_kind(reader, kinds, default_window=4096),
                default_kv_heads=4,
                default_head_dim=256,
                default_positions=8192,
            ),
            norm_eps=reader.epsilon("rms_norm_eps", 1e-6),
            activation=reader.activation("hidden_activation", "gelu_pytorch_tanh"),
            is_tied=reader.flag("tie_word_embeddings", True),
            has_attention_biases=reader.flag("attention_bias"),
            attention_scale=reader.factor("query_pre_attn_scalar", 256.0) ** -0.5,
            attention_softcap=reader.softcap("attn_logit_softcapping", 50.0),
            logits_softcap=reader.softcap("final_logit_softcapping", 30.0),
        )

    @property
    def tables(self) -> Tables:
        return Tables.of(
            self.spec, embedding="model.embed_tokens", head="lm_head", is_tied=self.is_tied
        )

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        return attention_projections(
            self.spec,
            f"model.layers.{layer}.self_attn",
            qkv_bias=self.has_attention_biases,
            output_bias=self.has_attention_biases,
        )

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Gate and up; down."""
        return gated_projections(self.spec, f"model.layers.{layer}.mlp")

    def build(self, load: ModelBuilder) -> Gemma2:
        return Gemma2(
            self.spec,
            load.tables(self.tables),
            [self._block(layer, load) for layer in range(self.spec.num_layers)],
            load.offset_rms_norm("model.norm", self.spec.hidden_size, self.norm_eps),
            embedding_scale=load.rounded(self.spec.hidden_size**0.5),
            logits_softcap=self.logits_softcap,
        )

    def _block(self, layer: int, load: ModelBuilder) -> Block:
        name, width = f"model.layers.{layer}", self.spec.hidden_size

        def norm(which: str) -> Norm:
            return load.offset_rms_norm(f"{name}.{which}", width, self.norm_eps)

        attention = load.attention(
            self.spec,
            layer,
            *self.attention(layer),
            scale=self.attention_scale,
            softcap=self.attention_softcap,
        )
        return SandwichBlock(
            (norm("input_layernorm"), norm("post_attention_layernorm")),
            attention,
            (norm("pre_feedforward_layernorm"), norm("post_feedforward_layernorm")),
            load.gated_mlp(*self.mlp(layer), self.activation),
            load.reduce,
        )


class Gemma2(DecoderStack):
    """Sandwich blocks over scaled embeddings; the head's scores are capped."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids).mul_(self.embedding_scale)
        return self.run_blocks(residual, caches, step)
