"""Partial sums of ranks that share a product by its inputs add up to the product, its bias once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import pytest
import torch

from octavo.kernels import reference
from octavo.layers.projection import Projection, Shard
from octavo.loading import Placement, Slice
from octavo.models.building import ModelBuilder
from octavo.quantization import Unquantised
from tests.support.runtime.rank_threads import LoneRank

WEIGHT, BIAS = "layer.down.weight", "layer.down.bias"


class Stored:
    """A product's weight and biases; notes how much of them is read."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._tensors = {WEIGHT: weight, BIAS: bias}
        self.num_read = 0

    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def has(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...] | None:
        return tuple(self._tensors[name].shape)

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        found = []
        for name, shape in shapes.items():
            tensor = self._tensors[name]
            assert tuple(tensor.shape) == shape
            found.append(tensor if part is None else tensor[part.of(shape)])
            self.num_read += found[-1].numel()
        return found

    def note(self, problem: str) -> None:
        raise AssertionError(problem)

    def finish(self, is_ignored: Callable[[str], bool]) -> None: ...


@pytest.mark.parametrize("shard", [Shard.ROW, Shard.COLUMN, Shard.WHOLE])
def test_one_rank_alone_adds_the_biases_of_a_shared_sum(shard: Shard) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(7, 9, generator=generator), torch.randn(7, generator=generator)
    x = torch.randn(3, 9, generator=generator)
    parts, num_read = [], 0
    for rank in range(2):
        source, placement = Stored(weight, bias), Placement(torch.float32, torch.device("cpu"))
        load = ModelBuilder(source, Unquantised(), reference, placement, LoneRank(rank))
        product = load.linear(Projection(("layer.down",), 9, (7,), bias=True, shard=shard))
        own = x[:, slice(0, 5) if rank == 0 else slice(5, 9)] if shard is Shard.ROW else x
        parts.append(product(own.contiguous()))
        num_read += source.num_read
    whole = x @ weight.T + bias
    if shard is Shard.ROW:
        torch.testing.assert_close(parts[0] + parts[1], whole)
    elif shard is Shard.COLUMN:
        torch.testing.assert_close(torch.cat(parts, dim=-1), whole)
    else:
        torch.testing.assert_close(parts[0], whole)
        torch.testing.assert_close(parts[1], whole)
    # Biases are read by both: they are few.
    assert num_read == (2 if shard is Shard.WHOLE else 1) * weight.numel() + 2 * bias.numel()
