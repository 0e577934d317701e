"""Decoders of real shapes, built where tensors have no memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from octavo.kernels import reference
from octavo.layers.rotary import RopeConfig
from octavo.models.config import DecoderConfig, ExpertsConfig
from octavo.models.decoder import Decoder


class MetaWeights:
    """Shapes alone; counts what is asked for."""

    def __init__(self) -> None:
        self.elements = 0

    def take(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        self.elements += (
            math.prod(shape) if len(shape) > 1 and not name.endswith("gate.weight") else 0
        )
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        pass


def test_mixtral_8x7b_takes_each_of_its_weights_once() -> None:
    config = DecoderConfig(
        architecture="MixtralForCausalLM",
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=14336,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        rms_norm_eps=1e-5,
        max_position_embeddings=32768,
        rope=RopeConfig(),
        experts=ExpertsConfig(num_experts=8, num_per_token=2),
    )
    weights = MetaWeights()
    Decoder(config, weights, reference)
    assert weights.elements == config.num_parameters
