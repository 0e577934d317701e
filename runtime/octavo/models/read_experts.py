"""Mixture of experts as config.json describes it (Qwen's names): how many, how wide, and in which layers."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.errors import ModelInvalidError
from octavo.models.config_reader import ConfigReader


@dataclass(frozen=True, slots=True)
class ExpertsConfig:
    """The experts of a layer.

    Args:
        per_token: Experts that each token gets.
        width: Between an expert's products.
        is_normalised: A token's shares are scaled to a sum of 1.
    """

    count: int
    per_token: int
    width: int
    is_normalised: bool


def read_experts(
    reader: ConfigReader, *, count: int, per_token: int, width: int, is_normalised: bool = False
) -> ExpertsConfig:
    """The arguments stand in where a field is missing. Raises `ModelInvalidError`."""
    # As transformers 5 writes it, which counts where both are there.
    count = reader.integer("num_local_experts", reader.integer("num_experts", count))
    per_token = reader.integer("num_experts_per_tok", per_token)
    if per_token > count:
        raise ModelInvalidError(
            f"config.json: num_experts_per_tok is {per_token}; it must be at most num_experts, {count}."
        )
    return ExpertsConfig(
        count=count,
        per_token=per_token,
        width=reader.integer("moe_intermediate_size", width),
        is_normalised=reader.flag("norm_topk_prob", is_normalised),
    )


def experts_in_layers(reader: ConfigReader) -> tuple[bool, ...]:
    """Which layers have experts: every `decoder_sparse_step`th that `mlp_only_layers` does not name."""
    step = reader.integer("decoder_sparse_step", 1)
    without = reader.get("mlp_only_layers") or []
    if not isinstance(without, list) or not all(isinstance(layer, int) for layer in without):
        raise ModelInvalidError(
            f"config.json: mlp_only_layers is {without!r:.60}; it must be a list of layers."
        )
    layers = range(reader.integer("num_hidden_layers"))
    return tuple(layer not in without and (layer + 1) % step == 0 for layer in layers)
