"""Qwen3, dense: Llama's layers with queries and keys normalised per head."""

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
from octavo.models.sliding_window import window_from_layer

STEM = "Qwen3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen3Config(StackedDecoderConfig):
    activation: Activation
    has_attention_biases: bool

    @classmethod
    def read(cls, reader: ConfigReader) -> Qwen3Config:
        return cls(
            spec=read_spec(
                reader,
                windows=window_from_layer(reader, default_window=4096, default_first=28),
                default_kv_heads=32,
                default_head_dim=128,
                default_positions=32768,
            ),
            norm_eps=reader.epsilon("rms_norm_eps", 1e-6),
            activation=reader.activation("hidden_act", "silu"),
            is_tied=reader.flag("tie_word_embeddings"),
            has_attention_biases=reader.flag("attention_bias"),
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

    def build(self, load: ModelBuilder) -> Qwen3:
        return Qwen3(
            self.spec,
            load.tables(self.tables),
            [self._block(layer, load) for layer in range(self.spec.num_layers)],
            load.rms_norm("model.norm", self.spec.hidden_size, self.norm_eps),
        )

    def _block(self, layer: int, load: ModelBuilder) -> Block:
        name, width = f"model.layers.{layer}", self.spec.hidden_size
        head_norm = load.head_norm(f"{name}.self_attn", self.spec, self.norm_eps)
        return load.pre_norm_block(
            load.rms_norm(f"{name}.input_layernorm", width, self.norm_eps),
            load.attention(self.spec, layer, *self.attention(layer), head_norm=head_norm),
            load.rms_norm(f"{name}.post_attention_layernorm", width, self.norm_eps),
            load.gated_mlp(*self.mlp(layer), self.activation),
        )


class Qwen3(DecoderStack):
    """Pre-norm blocks over the token embeddings."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
