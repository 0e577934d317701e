"""Formulas. What a step must cost: bytes and operations from the model's shape alone. Pure arithmetic.

The roofline (Williams et al., 2009) of one decode step is the sum of two phases that cannot overlap in a
layer: the products, bound by reading the weights or by arithmetic, and attention, bound by reading keys
and values. Activations, logits and sampling are left out, so no engine reaches 100 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WEIGHT_BYTES = 2  # bf16


@dataclass(frozen=True, slots=True)
class Roofline:
    """Measured ceilings of a device: bytes per second of reads, operations per second of bf16 products."""

    bandwidth: float
    matrix_rate: float


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What of a decoder costs time. `num_experts` is 1 for a dense model."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    num_experts: int = 1
    experts_per_token: int = 1

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Of a `config.json` as Llama, Qwen3 and Mixtral write it."""
        heads = config["num_attention_heads"]
        return cls(
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=config["num_key_value_heads"],
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            vocab_size=config["vocab_size"],
            num_experts=config.get("num_local_experts", 1),
            experts_per_token=config.get("num_experts_per_tok", 1),
        )

    @property
    def attention_weights(self) -> int:
        """Elements of the four projections, all layers."""
        query = self.num_heads * self.head_dim
        kv = self.num_kv_heads * self.head_dim
        return self.num_layers * self.hidden_size * (2 * query + 2 * kv)

    @property
    def expert_weights(self) -> int:
        """Elements of one feed-forward (one expert of a mixture), all layers."""
        return self.num_layers * 3 * self.hidden_size * self.intermediate_size

    @property
    def router_weights(self) -> int:
        experts = self.num_experts if self.num_experts > 1 else 0
        return self.num_layers * self.hidden_size * experts

    @property
    def head_weights(self) -> int:
        return self.hidden_size * self.vocab_size

    @property
    def weights_per_token(self) -> int:
        """Elements that multiply one token, without the head: each costs two operations."""
        return (
            self.attention_weights
            + self.router_weights
            + self.experts_per_token * self.expert_weights
        )

    def kv_bytes_per_token(self, element_bytes: int = 2) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * element_bytes


def distinct_experts(shape: ModelShape, tokens: int) -> float:
    """Experts of a layer that a batch reads, expected when each token picks at random."""
    missed = (1 - shape.experts_per_token / shape.num_experts) ** tokens
    return shape.num_experts * (1 - missed)


def weight_bytes_read(shape: ModelShape, tokens: int) -> float:
    """Bytes of weights that one decode step of `tokens` sequences reads, head included."""
    experts = distinct_experts(shape, tokens) * shape.expert_weights
    elements = shape.attention_weights + shape.router_weights + shape.head_weights + experts
    return elements * WEIGHT_BYTES


def decode_step_seconds(
    shape: ModelShape, batch: int, context: float, roofline: Roofline, kv_element_bytes: int = 2
) -> float:
    """The least time of one decode step of `batch` sequences that hold `context` tokens each."""
    operations = 2 * batch * (shape.weights_per_token + shape.head_weights)
    products = max(
        weight_bytes_read(shape, batch) / roofline.bandwidth, operations / roofline.matrix_rate
    )
    kv_bytes = batch * context * shape.kv_bytes_per_token(kv_element_bytes)
    return products + kv_bytes / roofline.bandwidth


def prefill_operations(shape: ModelShape, prompt_tokens: int) -> float:
    """Of one prompt, causal attention counted at half the square; the head is for one row and left out."""
    products = 2.0 * shape.weights_per_token * prompt_tokens
    attention = 4.0 * shape.num_layers * shape.num_heads * shape.head_dim * prompt_tokens**2 / 2
    return products + attention


def model_flops_utilisation(
    shape: ModelShape, prompts: int, prompt_tokens: int, seconds: float, roofline: Roofline
) -> float:
    """MFU of a prefill: the share of the measured matrix rate that its operations came to."""
    return prompts * prefill_operations(shape, prompt_tokens) / seconds / roofline.matrix_rate


def attention_bytes(
    batch: int,
    context: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    kv_element_bytes: int,
) -> int:
    """Bytes that one layer's decode attention must move: keys, values, queries and outputs (16 bits)."""
    kv = 2 * batch * context * num_kv_heads * head_dim * kv_element_bytes
    return kv + 2 * batch * num_heads * head_dim * 2
