"""Mixtral: Mistral whose feed-forward block is a mixture of experts (Jiang et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.errors import ModelInvalidError
from octavo.layers.mlp import Activation
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.models.base import ModelConfig, Tables
from octavo.models.blocks import Block, DecoderStack
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.projections import attention_projections, gated_projections
from octavo.models.read_spec import read_spec
from octavo.models.rope import RopeDefaults
from octavo.models.sliding_window import window_everywhere

STEM = "Mixtral"


# Gate, up and down of an expert: as Mistral published them, and as LLM Compressor 0.14 writes them.
_PUBLISHED = ("w1", "w3", "w2")
_QUANTISED = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtralConfig(ModelConfig):
    norm_eps: float
    activation: Activation
    num_experts: int
    num_experts_per_token: int

    @classmethod
    def read(cls, reader: ConfigReader) -> MixtralConfig:
        num_experts = reader.integer("num_local_experts", reader.integer("num_experts", 8))
        per_token = reader.integer("num_experts_per_tok", 2)
        if per_token > num_experts:
            raise ModelInvalidError(
                f"config.json: num_experts_per_tok is {per_token}; it must be at most "
                f"num_local_experts, {num_experts}."
            )
        return cls(
            spec=read_spec(
                reader,
                windows=window_everywhere(reader),
                default_kv_heads=8,
                default_positions=131072,
                rope_defaults=RopeDefaults(theta=1e6),
            ),
            norm_eps=reader.epsilon("rms_norm_eps", 1e-5),
            activation=reader.activation("hidden_act", "silu"),
            is_tied=reader.flag("tie_word_embeddings"),
            num_experts=num_experts,
            num_experts_per_token=per_token,
        )

    @property
    def tables(self) -> Tables:
        return Tables.of(
            self.spec, embedding="model.embed_tokens", head="lm_head", is_tied=self.is_tied
        )

    def projections(self) -> list[Projection]:
        found: list[Projection] = []
        for layer in range(self.spec.num_layers):
            found += self.attention(layer)
            found += (one for expert in self.experts(layer) for one in expert)
        return found

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        return attention_projections(self.spec, f"model.layers.{layer}.self_attn")

    def experts(
        self, layer: int, names: tuple[str, str, str] = _PUBLISHED
    ) -> list[tuple[Projection, Projection]]:
        """Of each expert, gate and up, and down."""
        prefix = f"model.layers.{layer}.block_sparse_moe.experts"
        return [
            gated_projections(self.spec, f"{prefix}.{expert}", names, is_routed=True)
            for expert in range(self.num_experts)
        ]

    def build(self, load: ModelBuilder) -> Mixtral:
        first = f"model.layers.0.block_sparse_moe.experts.0.{_QUANTISED[0]}."
        is_quantised = any(name.startswith(first) for name in load.source.names())
        names = _QUANTISED if is_quantised else _PUBLISHED
        return Mixtral(
            self.spec,
            load.tables(self.tables),
            [self._block(layer, load, names) for layer in range(self.spec.num_layers)],
            load.rms_norm("model.norm", self.spec.hidden_size, self.norm_eps),
        )

    def _block(self, layer: int, load: ModelBuilder, names: tuple[str, str, str]) -> Block:
        name, width = f"model.layers.{layer}", self.spec.hidden_size
        return load.pre_norm_block(
            load.rms_norm(f"{name}.input_layernorm", width, self.norm_eps),
            load.attention(self.spec, layer, *self.attention(layer)),
            load.rms_norm(f"{name}.post_attention_layernorm", width, self.norm_eps),
            load.experts(
                f"{name}.block_sparse_moe.gate",
                self.experts(layer, names),
                self.activation,
                num_per_token=self.num_experts_per_token,
            ),
        )


class Mixtral(DecoderStack):
    """Pre-norm blocks whose tokens run through a few of many feed-forward blocks."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
