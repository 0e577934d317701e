"""Partial sums of devices that share a product by its inputs add up to the product, its bias once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import pytest
import torch

from octavo.kernels import reference
from octavo.layers.projection import Projection, Shard
from octavo.loading import Placement, Slice
from octavo.models.building import ModelBuilder
from octavo.quantization import Unquantised

WEIGHT, BIAS = "layer.down.weight", "layer.down.bias"


class Half:
    """What one of two devices reads of a product: half of its inputs, and all of its biases."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._tensors = {WEIGHT: weight, BIAS: bias}

    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def has(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...] | None:
        return tuple(self._tensors[name].shape)

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        return [self._tensors[name] for name in shapes]

    def note(self, problem: str) -> None:
        raise AssertionError(problem)

    def finish(self, is_ignored: Callable[[str], bool]) -> None: ...


@pytest.mark.parametrize("shard", [Shard.ROW, Shard.COLUMN])
def test_one_device_alone_adds_the_biases_of_a_shared_sum(shard: Shard) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(6, 8, generator=generator), torch.randn(6, generator=generator)
    x = torch.randn(3, 8, generator=generator)
    sums = []
    for device in range(2):
        inputs = slice(4 * device, 4 * device + 4)
        load = ModelBuilder(
            Half(weight[:, inputs], bias),
            Unquantised(),
            reference,
            Placement(torch.float32, torch.device("cpu")),
            lambda partial: partial,
            is_first=device == 0,
        )
        product = load.linear(Projection(("layer.down",), 4, (6,), bias=True, shard=shard))
        sums.append(product(x[:, inputs].contiguous()))
    whole = x @ weight.T + bias
    # Outputs are each device's own where these are shared, and so are their biases.
    torch.testing.assert_close(sum(sums), whole if shard is Shard.ROW else whole + bias)
