"""Qwen2-MoE and Qwen1.5-MoE: Qwen2 with mixtures of experts, and one expert that every token runs through."""

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
from octavo.models.sliding_window import window_by_kind

STEM = "Qwen2Moe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen2MoeConfig(ModelConfig):
    per_layer: ClassVar[tuple[str, ...]] = ("has_experts",)

    norm_eps: float
    activation: Activation
    has_qkv_biases: bool
    experts: ExpertsConfig
    shared_width: int
    has_experts: tuple[bool, ...]

    @classmethod
    def read(cls, reader: ConfigReader) -> Qwen2MoeConfig:
        return cls(
            spec=read_spec(
                reader, windows=_windows(reader), default_kv_heads=16, default_positions=32768
            ),
            norm_eps=reader.epsilon("rms_norm_eps", 1e-6),
            activation=reader.activation("hidden_act", "silu"),
            is_tied=reader.flag("tie_word_embeddings"),
            has_qkv_biases=reader.flag("qkv_bias", True),
            experts=read_experts(reader, count=60, per_token=4, width=1408),
            shared_width=reader.integer("shared_expert_intermediate_size", 5632),
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
            if has_experts:
                found += (one for block in self.expert_blocks(layer) for one in block)
            found += self.shared_expert(layer) if has_experts else self.mlp(layer)
        return found

    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""
        prefix = f"model.layers.{layer}.self_attn"
        return attention_projections(self.spec, prefix, qkv_bias=self.has_qkv_biases)

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

    def shared_expert(self, layer: int) -> tuple[Projection, Projection]:
        """Gate and up; down. Of the one that every token runs through."""
        prefix = f"model.layers.{layer}.mlp.shared_expert"
        return gated_projections(self.spec, prefix, inner_size=self.shared_width)

    def build(self, load: ModelBuilder) -> Qwen2Moe:
        return Qwen2Moe(
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
            self._feed_forward(layer, load),
        )

    def _feed_forward(self, layer: int, load: ModelBuilder) -> FeedForward:
        if not self.has_experts[layer]:
            return load.gated_mlp(*self.mlp(layer), self.activation)
        name = f"model.layers.{layer}.mlp"
        routed = load.experts(
            f"{name}.gate",
            self.expert_blocks(layer),
            self.activation,
            num_per_token=self.experts.per_token,
            is_normalised=self.experts.is_normalised,
        )
        gate = f"{name}.shared_expert_gate"
        return load.shared_expert(routed, gate, self.shared_expert(layer), self.activation)


def _windows(reader: ConfigReader) -> tuple[int | None, ...] | None:
    """Of every second layer before `max_window_layers`, where Qwen2 has those behind it."""
    first_without = reader.get("max_window_layers", 28)
    if not reader.flag("use_sliding_window"):
        return None
    layers = range(reader.integer("num_hidden_layers"))
    has_window = [layer % 2 == 0 and layer < first_without for layer in layers]
    kinds = ["sliding_attention" if one else "full_attention" for one in has_window]
    return window_by_kind(reader, kinds, default_window=4096)


class Qwen2Moe(DecoderStack):
    """Pre-norm blocks whose tokens run through a few of many feed-forward blocks and a shared one."""

    __slots__ = ()

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        residual = self.embed(token_ids)
        return self.run_blocks(residual, caches, step)
