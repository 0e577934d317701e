"""Qwen3-MoE: Qwen3 whose feed-forward blocks are mixtures of experts, in all layers or some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from octavo.layers.mlp import Activation, FeedForward
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.models.base import ModelConfig, Tables
from octavo.models.blocks import Block, DecoderStack
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.projections import attention_projections, gated_projections
from octavo.models.read_experts import ExpertsConfig, experts_in_layers, read_experts
from octavo.models.read_spec import read_spec
from octavo.models.sliding_window import window_everywhere

STEM = "Qwen3Moe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen3MoeConfig(ModelConfig):
    per_layer: ClassVar[tuple[str, ...]] = ("has_experts",)

    norm_eps: float
    activation: Activation
    has_attention_biases: bool
    experts: ExpertsConfig
    has_experts: tuple[bool, ...]

    @classmethod
    def read(cls, reader: ConfigReader) -> Qwen3MoeConfig:
        has_windows = reader.flag("use_sliding_window")
        return cls(
            spec=read_spec(
                reader,
                windows=window_everywhere(reader, default=4096) if has_windows else None,
                default_kv_heads=4,
                default_positions=32768,
            ),
            norm_eps=reader.epsilon("rms_norm_eps", 1e-6),
            activation=reader.activation("hidden_act", "silu"),
            is_tied=reader.flag("tie_word_embeddings"),
            has_attention_biases=reader.flag("attention_bias"),
            experts=read_experts(reader, count=128, per_token=8, width=768),
            has_experts=experts_in_layers(reader),
        )

    @property
    def tables(self) -> Tables:
        return Tables.of(
            self.spec, embedding="model.embed_tokens", head="lm_head", is_tied=self.is_tied
        )

    def projections(self) -> list[Projection]:
        found: list[Projection] = []
        for layer, has_experts in enumerate(self.has_experts):
            found += self.attention(layer)
            blocks = self.expert_blocks(layer) if has_experts else [self.mlp(layer)]
            found += (one for block in blocks for one in block)
        return found

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        return attention_projections(
            self.spec,
            f"model.layers.{layer}.self_attn",
            qkv_bias=self.has_attention_biases,
            output_bias=self.has_attention_biases,
        )

    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """Gate and up; down. Of a layer without experts."""
        return gated_projections(self.spec, f"model.layers.{layer}.mlp")

    def expert_blocks(self, layer: int) -> list[tuple[Projection, Projection]]:
        """Of each expert, gate and up, and down."""
        prefix = f"model.layers.{layer}.mlp.experts"
        return [
            gated_projections(
                self.spec, f"{prefix}.{expert}", inner_size=self.experts.width, is_routed=True
            )
            for expert in range(self.experts.count)
        ]

    def build(self, load: ModelBuilder) -> Qwen3Moe:
        return Qwen3Moe(
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
            self._feed_forward(layer, load),
        )

    def _feed_forward(self, layer: int, load: ModelBuilder) -> FeedForward:
        if not self.has_experts[layer]:
            return load.gated_mlp(*self.mlp(layer), self.activation)
        return load.experts(
            f"model.layers.{layer}.mlp.gate",
            self.expert_blocks(layer),
            self.activation,
            num_per_token=self.experts.per_token,
            is_normalised=self.experts.is_normalised,
        )


class Qwen3Moe(DecoderStack):
    """Pre-norm blocks whose tokens run through a few of many feed-forward blocks."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
