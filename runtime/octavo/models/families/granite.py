"""Granite 3 (IBM, 2024), dense: Llama's layers, with factors on embeddings, scores, sums and the head.

The stream is kept divided by `residual_multiplier`. What blocks add to it needs no factor then, and
root-mean-square norms give the same of it, if what they add to the mean square is divided by the factor's
square.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.layers.mlp import Activation
from octavo.layers.norm import Norm
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.models.base import Tables
from octavo.models.blocks import Block, DecoderStack
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.decoder_config import StackedDecoderConfig
from octavo.models.projections import attention_projections, gated_projections
from octavo.models.read_spec import read_spec

STEM = "Granite"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraniteConfig(StackedDecoderConfig):
    activation: Activation
    has_attention_biases: bool
    has_mlp_biases: bool
    embedding_scale: float
    attention_scale: float
    residual_scale: float
    logits_divisor: float

    @classmethod
    def read(cls, reader: ConfigReader) -> GraniteConfig:
        return cls(
            spec=read_spec(reader),
            norm_eps=reader.epsilon("rms_norm_eps", 1e-6),
            activation=reader.activation("hidden_act", "silu"),
            is_tied=reader.flag("tie_word_embeddings"),
            has_attention_biases=reader.flag("attention_bias"),
            has_mlp_biases=reader.flag("mlp_bias"),
            embedding_scale=reader.factor("embedding_multiplier", 1.0),
            attention_scale=reader.factor("attention_multiplier", 1.0),
            residual_scale=reader.factor("residual_multiplier", 1.0),
            logits_divisor=reader.factor("logits_scaling", 1.0),
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

    def build(self, load: ModelBuilder) -> Granite:
        return Granite(
            self.spec,
            load.tables(self.tables),
            [self._block(layer, load) for layer in range(self.spec.num_layers)],
            self._norm("norm", load),
            embedding_scale=self.embedding_scale / self.residual_scale,
            stream_scale=self.residual_scale,
            logits_divisor=self.logits_divisor,
        )

    def _block(self, layer: int, load: ModelBuilder) -> Block:
        return load.pre_norm_block(
            self._norm(f"layers.{layer}.input_layernorm", load),
            load.attention(self.spec, layer, *self.attention(layer), scale=self.attention_scale),
            self._norm(f"layers.{layer}.post_attention_layernorm", load),
            load.gated_mlp(*self.mlp(layer), self.activation),
        )

    def _norm(self, name: str, load: ModelBuilder) -> Norm:
        eps = self.norm_eps / self.residual_scale**2
        return load.rms_norm(f"model.{name}", self.spec.hidden_size, eps)


class Granite(DecoderStack):
    """Pre-norm blocks over scaled embeddings; the head's scores are divided."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids).mul_(self.embedding_scale)
        return self.run_blocks(residual, caches, step)
