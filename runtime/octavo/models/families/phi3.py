"""Phi-3, 3.5 and 4: Llama's layers with products that the checkpoint fuses, LongRoPE, partial rotation."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.layers.mlp import Activation
from octavo.layers.projection import Projection
from octavo.layers.rotary import RopeScaling
from octavo.layers.step import Step
from octavo.models.base import Tables
from octavo.models.blocks import Block, DecoderStack
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.decoder_config import StackedDecoderConfig
from octavo.models.projections import attention_projections, gated_projections
from octavo.models.read_spec import read_spec
from octavo.models.rope import RopeDefaults
from octavo.models.sliding_window import window_everywhere

STEM = "Phi3"

# First releases call LongRoPE by other names, one of which is another scaling's elsewhere.
_ROPE = RopeDefaults(
    partial=1.0,
    original=4096,
    scalings={
        "default": RopeScaling.NONE,
        "longrope": RopeScaling.LONGROPE,
        "su": RopeScaling.LONGROPE,
        "yarn": RopeScaling.LONGROPE,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phi3Config(StackedDecoderConfig):
    activation: Activation

    @classmethod
    def read(cls, reader: ConfigReader) -> Phi3Config:
        return cls(
            spec=read_spec(
                reader,
                windows=window_everywhere(reader),
                default_positions=4096,
                rope_defaults=_ROPE,
            ),
            norm_eps=reader.epsilon("rms_norm_eps", 1e-5),
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
        prefix = f"model.layers.{layer}.self_attn"
        return attention_projections(self.spec, prefix, ("qkv_proj", "o_proj"))

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Gate and up; down."""
        prefix = f"model.layers.{layer}.mlp"
        return gated_projections(self.spec, prefix, ("gate_up_proj", "down_proj"))

    def build(self, load: ModelBuilder) -> Phi3:
        return Phi3(
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


class Phi3(DecoderStack):
    """Pre-norm blocks over the token embeddings."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
