"""Llama 1 to 3.x, and the many checkpoints that share its architecture."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.layers.mlp import Activation
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.models.base import Tables
from octavo.models.blocks import Block, DecoderStack
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.decoder_config import StackedDecoderConfig
from octavo.models.projections import attention_projections, gated_projections
from octavo.models.read_spec import read_spec

STEM = "Llama"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig(StackedDecoderConfig):
    activation: Activation
    has_attention_biases: bool
    has_mlp_biases: bool

    @classmethod
    def read(cls, reader: ConfigReader) -> LlamaConfig:
        return cls(
            spec=read_spec(reader),
            norm_eps=reader.epsilon("rms_norm_eps", 1e-6),
            activation=reader.activation("hidden_act", "silu"),
            is_tied=reader.flag("tie_word_embeddings"),
            has_attention_biases=reader.flag("attention_bias"),
            has_mlp_biases=reader.flag("mlp_bias"),
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
        return gated_projections(self.spec, f"model.layers.{layer}.mlp", bias=self.has_mlp_biases)

    def build(self, load: ModelBuilder) -> Llama:
        return Llama(
            self.spec,
            load.tables(self.tables),
            [self._block(layer, load) for layer in range(self.spec.num_layers)],
            load.rms_norm("model.norm", self.spec.hidden_size, self.norm_eps),
        )

    def _block(self, layer: int, load: ModelBuilder) -> Block:
        name, width = f"model.layers.{layer}", self.spec.hidden_size
        return load.pre_norm_block(
            load.rms_norm(f"{name}.input_layernorm", width, self.norm_eps),
            load.attention(self.spec, layer, *self.attention(layer)),
            load.rms_norm(f"{name}.post_attention_layernorm", width, self.norm_eps),
            load.gated_mlp(*self.mlp(layer), self.activation),
        )


class Llama(DecoderStack):
    """Pre-norm blocks over the token embeddings."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
