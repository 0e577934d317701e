"""Gemma 3 (Gemma Team, 2025): Gemma 2's layers without caps; a theta of its own for layers with a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
from octavo.models.rope import read_rope_of_kinds
from octavo.models.sliding_window import full_attention_every, window_by_kind

STEM = "Gemma3"
BASE_STEM = "Gemma3Text"

_GLOBAL, _LOCAL = 0, 1  # rotary tables
_THETAS = {
    "full_attention": ("rope_theta", 1e6),
    "sliding_attention": ("rope_local_base_freq", 1e4),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma3Config(StackedDecoderConfig):
    per_layer: ClassVar[tuple[str, ...]] = ("rotary",)

    activation: Activation
    has_attention_biases: bool
    attention_scale: float
    logits_softcap: float | None
    rotary: tuple[int, ...]

    @classmethod
    def read(cls, reader: ConfigReader) -> Gemma3Config:
        reader.refuse_others("use_bidirectional_attention", False, None)
        reader.refuse_others("attn_logit_softcapping", None)
        reader.skip("_sliding_window_pattern")  # as transformers 5 writes it, beside layer_types
        kinds = full_attention_every(reader, reader.integer("sliding_window_pattern", 6))
        windows = window_by_kind(reader, kinds, default_window=4096)
        return cls(
            spec=read_spec(
                reader,
                windows=windows,
                default_kv_heads=4,
                default_head_dim=256,
                default_positions=131072,
                rotary=read_rope_of_kinds(
                    reader,
                    head_dim=reader.integer("head_dim", 256),
                    max_position=reader.integer("max_position_embeddings", 131072),
                    thetas=_THETAS,
                ),
            ),
            norm_eps=reader.epsilon("rms_norm_eps", 1e-6),
            activation=reader.activation("hidden_activation", "gelu_pytorch_tanh"),
            is_tied=reader.flag("tie_word_embeddings", True),
            has_attention_biases=reader.flag("attention_bias"),
            attention_scale=reader.factor("query_pre_attn_scalar", 256.0) ** -0.5,
            logits_softcap=reader.softcap("final_logit_softcapping", None),
            rotary=tuple(_GLOBAL if window is None else _LOCAL for window in windows),
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

    def build(self, load: ModelBuilder) -> Gemma3:
        return Gemma3(
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

        head_norm = load.head_norm(f"{name}.self_attn", self.spec, self.norm_eps, is_offset=True)
        attention = load.attention(
            self.spec,
            layer,
            *self.attention(layer),
            head_norm=head_norm,
            rotary=self.rotary[layer],
            scale=self.attention_scale,
        )
        return SandwichBlock(
            (norm("input_layernorm"), norm("post_attention_layernorm")),
            attention,
            (norm("pre_feedforward_layernorm"), norm("post_feedforward_layernorm")),
            load.gated_mlp(*self.mlp(layer), self.activation),
            load.reduce,
        )


class Gemma3(DecoderStack):
    """Sandwich blocks over scaled embeddings."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids).mul_(self.embedding_scale)
        return self.run_blocks(residual, caches, step)
