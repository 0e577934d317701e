"""Mistral: Llama's layers, v0.1 with a sliding window in every one of them, Ministral 8B in some."""

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
from octavo.models.sliding_window import window_of_all_or_some

STEM = "Mistral"


@dataclass(frozen=True, slots=True, kw_only=True)
class MistralConfig(StackedDecoderConfig):
    activation: Activation

    @classmethod
    def read(cls, reader: ConfigReader) -> MistralConfig:
        return cls(
            spec=read_spec(
                reader,
                # A file without the field is of v0.1's time, whose class had this window by default.
                windows=window_of_all_or_some(reader, default=4096),
                default_kv_heads=8,
                default_positions=131072,
            ),
            norm_eps=reader.epsilon("rms_norm_eps", 1e-6),
            activation=reader.activation("hidden_act", "silu"),
            is_tied=reader.flag("tie_word_embeddings"),
        )

    @property
    def tables(self) -> Tables:
        return Tables.of(
            self.spec, embedding="model.embed_tokens", head="lm_head", is_tied=self.is_tied
        )

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        return attention_projections(self.spec, f"model.layers.{layer}.self_attn")

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Gate and up; down."""
        return gated_projections(self.spec, f"model.layers.{layer}.mlp")

    def build(self, load: ModelBuilder) -> Mistral:
        return Mistral(
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


class Mistral(DecoderStack):
    """Pre-norm blocks over the token embeddings, whose attention may see a window alone."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
