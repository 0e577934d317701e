"""Mixtral: Mistral whose feed-forward block is a mixture of experts (Jiang et al., 2024)."""

from __future__ import annotations

from octavo.errors import ModelInvalidError
from octavo.models.config import ConfigReader, DecoderConfig, ExpertsConfig
from octavo.models.sliding_window import window_everywhere

ARCHITECTURE = "MixtralForCausalLM"


def read_config(reader: ConfigReader) -> DecoderConfig:
    experts = ExpertsConfig(
        num_experts=reader.integer("num_local_experts", 8),
        num_per_token=reader.integer("num_experts_per_tok", 2),
    )
    if experts.num_per_token > experts.num_experts:
        raise ModelInvalidError(
            f"config.json: num_experts_per_tok is {experts.num_per_token}; it must be at most "
            f"num_local_experts, {experts.num_experts}."
        )
    return reader.decoder(ARCHITECTURE, experts=experts, sliding_windows=window_everywhere(reader))
