"""Steps of a few rows through the launches that fuse, against the layer itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from octavo.kernels import reference as plain
from octavo.kernels.reference import device as reference
from octavo.layers.attention import AttentionSpec
from octavo.layers.rotary import RopeConfig
from octavo.models.config import Activation, DecoderConfig, ExpertsConfig
from octavo.models.decoder_layer import DecoderLayer, load_layer
from octavo.models.fused_layer import FusedLayer

CACHE = torch.empty(0)


class RandomWeights:
    """Every parameter that is asked for, the same for the same name."""

    def take(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(sum(name.encode()))
        return torch.randn(shape, generator=generator, dtype=torch.float64).mul_(0.15)


class OwnValues:
    """In place of attention: every query head gives its key head's value."""

    num_live = None

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        values = heads[:, spec.num_heads + spec.num_kv_heads :]
        return values.repeat_interleave(spec.num_heads // spec.num_kv_heads, 1).flatten(1)


class Counted:
    """The reference kernels, noting which are called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        for name in reference.__all__:
            member = getattr(reference, name)
            setattr(self, name, self._noted(name, member) if callable(member) else member)

    def _noted(self, name: str, kernel: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **named: object) -> object:
            self.calls.append(name)
            return kernel(*args, **named)

        return call


def config(**changes: object) -> DecoderConfig:
    fields: dict[str, object] = {
        "architecture": "LlamaForCausalLM",
        "vocab_size": 64,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_layers": 1,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64,
        "rope": RopeConfig(),
    }
    return DecoderConfig(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(
    params=[{}, {"qkv_bias": True}, {"activation": Activation.GELU_TANH}],
    ids=["llama", "qwen2", "gelu"],
)
def layers(request: pytest.FixtureRequest) -> tuple[FusedLayer, DecoderLayer, Counted]:
    """A fused layer and one that never fuses, of the same weights."""
    changes = request.param
    kernels = Counted()
    fused = load_layer(config(**changes), RandomWeights(), 0, kernels)  # type: ignore[arg-type]
    assert isinstance(fused, FusedLayer)
    layer = load_layer(config(**changes), RandomWeights(), 0, plain)  # type: ignore[arg-type]
    assert isinstance(layer, DecoderLayer)
    return fused, layer, kernels


@pytest.mark.parametrize("rows", [1, 3, reference.max_fused_rows, reference.max_fused_rows + 1])
@pytest.mark.parametrize("has_delta", [False, True])
def test_the_residual_stream_is_that_of_the_layer_itself(
    layers: tuple[FusedLayer, DecoderLayer, Counted], rows: int, has_delta: bool
) -> None:
    fused, layer, kernels = layers
    start, delta = torch.randn(2, rows, 48, dtype=torch.float64)
    got, expected = start.clone(), start.clone()

    left = fused(got, delta if has_delta else None, CACHE, OwnValues())
    expected_left = layer(expected, delta if has_delta else None, CACHE, OwnValues())

    torch.testing.assert_close(got if left is None else got + left, expected + expected_left)
    if rows <= reference.max_fused_rows:
        assert kernels.calls == ["norm_linear", "linear_add", "norm_gate_up", "linear_add"]
        assert left is None
    else:
        assert not set(kernels.calls) & {"norm_linear", "linear_add", "norm_gate_up"}


def test_experts_and_further_biases_are_not_fused() -> None:
    for changes in (
        {"experts": ExpertsConfig(num_experts=4, num_per_token=2)},
        {"mlp_bias": True},
        {"output_bias": True},
    ):
        layer = load_layer(config(**changes), RandomWeights(), 0, reference)  # type: ignore[arg-type]
        assert isinstance(layer, DecoderLayer), changes
