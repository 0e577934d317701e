"""Phi-1, 1.5 and 2: parallel residual with one layer norm, a part of each head turned, biases everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.errors import ModelUnsupportedError
from octavo.layers.mlp import PlainActivation
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.models.base import Tables
from octavo.models.blocks import Block, DecoderStack
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.decoder_config import StackedDecoderConfig
from octavo.models.projections import attention_projections, plain_projections
from octavo.models.read_spec import read_spec
from octavo.models.rope import RopeDefaults

STEM = "Phi"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhiConfig(StackedDecoderConfig):
    activation: PlainActivation

    @classmethod
    def read(cls, reader: ConfigReader) -> PhiConfig:
        if reader.flag("qk_layernorm"):
            raise ModelUnsupportedError(
                "config.json: qk_layernorm is true; layer norms of queries and keys are not implemented."
            )
        return cls(
            spec=read_spec(reader, rope_defaults=RopeDefaults(partial=0.5)),
            norm_eps=reader.epsilon("layer_norm_eps", 1e-5),
            activation=reader.plain_activation("hidden_act", "gelu_new"),
            is_tied=reader.flag("tie_word_embeddings"),
        )

    @property
    def tables(self) -> Tables:
        return Tables.of(
            self.spec,
            embedding="model.embed_tokens",
            head="lm_head",
            head_bias=True,
            is_tied=self.is_tied,
        )

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        return attention_projections(
            self.spec,
            f"model.layers.{layer}.self_attn",
            ("q_proj", "k_proj", "v_proj", "dense"),
            qkv_bias=True,
            output_bias=True,
        )

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Up; down."""
        return plain_projections(self.spec, f"model.layers.{layer}.mlp", ("fc1", "fc2"), bias=True)

    def build(self, load: ModelBuilder) -> Phi:
        return Phi(
            self.spec,
            load.tables(self.tables),
            [self._block(layer, load) for layer in range(self.spec.num_layers)],
            load.layer_norm("model.final_layernorm", self.spec.hidden_size, self.norm_eps),
        )

    def _block(self, layer: int, load: ModelBuilder) -> Block:
        name, width = f"model.layers.{layer}", self.spec.hidden_size
        return load.parallel_block(
            load.layer_norm(f"{name}.input_layernorm", width, self.norm_eps),
            load.attention(self.spec, layer, *self.attention(layer)),
            None,
            load.plain_mlp(*self.mlp(layer), self.activation),
        )


class Phi(DecoderStack):
    """Parallel blocks over the token embeddings; the head has a bias."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
