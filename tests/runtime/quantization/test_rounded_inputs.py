"""Activations that a checkpoint rounds to FP8: what it says of them, and which products take it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from octavo.kernels.reference import device as reference
from octavo.kernels.scaled_weight import RoundedInputs
from octavo.layers.linear import Linear
from octavo.layers.projection import Projection, Shard
from octavo.loading import Placement, SafetensorsWeights
from octavo.quantization import scheme_for, stored_format
from octavo.quantization.packed_forms import PackedForms, ScaledLinear, WordsLinear
from octavo.quantization.stored_scheme import SideBySide, Stored
from tests.support.runtime.quantised_checkpoints import float8_weight

PLACEMENT = Placement(torch.float32, torch.device("cpu"))
FLOAT = {"num_bits": 8, "type": "float", "symmetric": True}
DYNAMIC: dict[str, Any] = {"quant_method": "fp8", "activation_scheme": "dynamic"}
STATIC: dict[str, Any] = {"quant_method": "fp8", "activation_scheme": "static"}
BLOCKS = DYNAMIC | {"weight_block_size": [128, 128]}


def compressed(activations: dict[str, Any] | None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": FLOAT | {"strategy": "channel"}}
    groups = {"group_0": group | {"input_activations": activations}}
    return {"quant_method": "compressed-tensors", "config_groups": groups}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (compressed(FLOAT | {"strategy": "token", "dynamic": True}), RoundedInputs()),
        # One scale for all rows of a step would tie them to each other.
        (compressed(FLOAT | {"strategy": "tensor", "dynamic": True}), RoundedInputs()),
        (compressed(FLOAT | {"dynamic": False}), RoundedInputs(is_static=True)),
        (
            compressed(FLOAT | {"strategy": "group", "group_size": 128, "dynamic": True}),
            RoundedInputs(128),
        ),
        (compressed(None), None),
        (compressed(FLOAT | {"type": "int", "strategy": "token", "dynamic": True}), None),
        (compressed(FLOAT | {"num_bits": 4, "strategy": "token", "dynamic": True}), None),
        (compressed(FLOAT | {"symmetric": False, "strategy": "token", "dynamic": True}), None),
        (compressed(FLOAT | {"strategy": "tensor_group", "dynamic": "local"}), None),
        (DYNAMIC, RoundedInputs()),
        (BLOCKS, RoundedInputs(128)),
        (STATIC, RoundedInputs(is_static=True)),
        ({"quant_method": "fp8"}, None),
        ({"quant_method": "fp8", "activation_scheme": "none"}, None),
    ],
)
def test_what_config_json_says_of_activations(
    config: dict[str, Any], expected: RoundedInputs | None
) -> None:
    layout = stored_format(config).layout("model.layers.0.mlp.up_proj", 256)
    assert layout is not None
    assert layout.inputs == expected


class Made:
    """A checkpoint of products of one input in FP8, and its scheme where activations are rounded."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        widths: dict[str, int],
        depth: int,
        scales: dict[str, float] | None = None,
    ) -> None:
        block = config.get("weight_block_size", [None, None])
        tensors: dict[str, torch.Tensor] = {}
        self.weights = {}
        for index, (name, width) in enumerate(widths.items()):
            generator = torch.Generator().manual_seed(index)
            weight = torch.randn(width, depth, generator=generator)
            codes, scale, self.weights[name] = float8_weight(weight, *block)
            tensors |= {f"{name}.weight": codes, f"{name}.weight_scale": scale}
            if scales is not None and name in scales:
                tensors[f"{name}.input_scale"] = torch.tensor(scales[name])
        save_file(tensors, folder / "model.safetensors")
        self.source = SafetensorsWeights(folder)
        self.projection = Projection(tuple(widths), depth, tuple(widths.values()))
        scheme = scheme_for(None, reference, stored_format(config), rounds_inputs=True)
        assert isinstance(scheme, Stored)
        self.scheme = scheme

    def load(self, projection: Projection | None = None) -> Linear:
        return self.scheme.load(projection or self.projection, self.source, PLACEMENT)


def rows(depth: int) -> torch.Tensor:
    return torch.randn(5, depth, generator=torch.Generator().manual_seed(9)) * 3


@pytest.mark.parametrize("config", [DYNAMIC, BLOCKS, STATIC])
def test_products_of_one_input_are_one_and_count_as_what_they_hold(
    config: dict[str, Any], tmp_path: Path
) -> None:
    scales = {"q": 0.02, "k": 0.02} if config is STATIC else None
    made = Made(tmp_path, config, {"q": 256, "k": 128}, 256, scales)
    linear = made.load()
    assert isinstance(linear, ScaledLinear)
    assert (linear.weight.input_scale is not None) == (config is STATIC)
    assert torch.equal(linear.weight.dequantize(), torch.cat(list(made.weights.values())))
    assert made.scheme.num_bytes(made.projection, torch.bfloat16) == linear.weight.num_bytes


def test_inputs_of_different_scales_are_rounded_apart(tmp_path: Path) -> None:
    made = Made(tmp_path, STATIC, {"q": 32, "k": 16}, 64, {"q": 0.02, "k": 0.03})
    linear = made.load()
    assert isinstance(linear, SideBySide)
    assert all(isinstance(one, ScaledLinear) for one in linear._linears)


@pytest.mark.parametrize("scales", [{}, {"q": 0.0}, {"q": float("nan")}, {"q": -1.0}])
def test_a_scale_that_is_none_leaves_activations_as_they_are(
    scales: dict[str, float], tmp_path: Path
) -> None:
    made = Made(tmp_path, STATIC, {"q": 32}, 64, scales)
    assert isinstance(made.load(), WordsLinear)
    made.source.finish(lambda _: False)


def test_what_keeps_its_activations(tmp_path: Path) -> None:
    """Heads, experts, sizes that no matrix unit takes, and everything where the user wants it so."""
    made = Made(tmp_path, DYNAMIC, {"q": 32, "odd": 40}, 64)
    own = Projection(("q",), 64, (32,))
    assert isinstance(made.load(own), ScaledLinear)
    assert isinstance(made.load(Projection(("odd",), 64, (40,))), WordsLinear)
    assert isinstance(made.scheme.load_head(own, made.source, PLACEMENT), WordsLinear)
    experts = replace(own, is_routed=True)
    found = made.load(experts)
    assert isinstance(found, WordsLinear)
    assert made.scheme.num_bytes(experts, torch.float32) == found.weight.num_bytes
    kept = replace(made.scheme, forms=PackedForms(reference))
    assert isinstance(kept.load(own, made.source, PLACEMENT), WordsLinear)


@pytest.mark.parametrize("config", [DYNAMIC, BLOCKS, STATIC])
@pytest.mark.parametrize("shard", [Shard.ROW, Shard.COLUMN])
def test_ranks_round_what_they_have(config: dict[str, Any], shard: Shard, tmp_path: Path) -> None:
    """Parts are those of the whole product; of inputs with one scale for a row each rank has its own."""
    depth = 512
    scales = {"down": 0.03} if config is STATIC else None
    made = Made(tmp_path, config, {"down": 256}, depth, scales)
    x, whole = rows(depth), replace(made.projection, shard=shard)
    parts = []
    for rank in range(2):
        own = whole.share(rank, 2)
        linear = made.load(own)
        assert isinstance(linear, ScaledLinear)
        assert made.scheme.num_bytes(own, torch.float32) == linear.weight.num_bytes
        inputs = slice(256 * rank, 256 * rank + 256) if shard is Shard.ROW else slice(None)
        parts.append(linear(x[:, inputs]))
    found = torch.cat(parts, dim=-1) if shard is Shard.COLUMN else parts[0] + parts[1]
    expected = made.load(whole)(x)
    if shard is Shard.COLUMN or config is not DYNAMIC:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
        return
    exact = x @ made.weights["down"].T
    assert (found - exact).norm() < 1.1 * (expected - exact).norm() < 0.05 * exact.norm()
