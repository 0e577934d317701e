"""Partial sums of ranks that share a product by its inputs add up to the product, its bias once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import pytest
import torch

from octavo.config import Quantization
from octavo.kernels import reference
from octavo.kernels.cpu.products.panel_linear import PanelLinear
from octavo.kernels.reference import device
from octavo.layers.linear import Linear
from octavo.layers.projection import Projection, Shard
from octavo.loading import Placement, Slice
from octavo.models.building import ModelBuilder
from octavo.quantization import Unquantised, WeightOnly
from octavo.quantization.packed_forms import PackedForms, WordsLinear
from octavo.quantization.panel_forms import PANELS
from octavo.quantization.weight_forms import WeightForms
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


@pytest.mark.parametrize("forms", [PANELS, PackedForms(device)], ids=["panels", "words"])
@pytest.mark.parametrize("rounding", [Quantization.INT8, Quantization.INT4, Quantization.FP8])
@pytest.mark.parametrize("shard", [Shard.ROW, Shard.COLUMN])
@pytest.mark.parametrize(
    ("width", "depth", "size"),
    [
        (32, 64, 2),  # whole groups, and whole panels
        (32, 96, 2),  # a group of 32 inputs that is cut
        (48, 80, 2),  # int8 in int4's stead, and a half of the outputs without panels
        (32, 32, 3),  # unequal parts without panels
        (24, 64, 3),  # no panels of the whole
    ],
)
def test_parts_of_a_rounded_weight_have_its_numbers(
    width: int, depth: int, size: int, shard: Shard, rounding: Quantization, forms: WeightForms
) -> None:
    generator = torch.Generator().manual_seed(2)
    weight, bias = (
        torch.randn(*shape, generator=generator) for shape in ((width, depth), (width,))
    )
    x, placement = torch.eye(depth), Placement(torch.float32, torch.device("cpu"))
    scheme = WeightOnly(rounding, forms)
    projection = Projection(("layer.down",), depth, (width,), bias=True, shard=shard)
    parts = []
    for rank in range(size):
        own = projection.share(rank, size)
        load = ModelBuilder(
            Stored(weight, bias), scheme, reference, placement, LoneRank(rank, size)
        )
        product = load.linear(projection)
        inputs = None if own.cut is None else own.cut.inputs
        parts.append(
            product(x if inputs is None else x[:, inputs.start : inputs.stop].contiguous())
        )
        assert scheme.num_bytes(own, torch.float32) == held_bytes(product, own)
    whole = scheme.load(projection, Stored(weight, bias), placement)(x)
    found = torch.stack(parts).sum(0) if shard is Shard.ROW else torch.cat(parts, dim=-1)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)


def held_bytes(product: Linear, own: Projection) -> int:
    """As the float32 numbers that it has where it is neither panels nor words."""
    if isinstance(product, PanelLinear):
        return product.panels.num_bytes + 4 * own.width
    if isinstance(product, WordsLinear):
        return product.weight.num_bytes + 4 * own.width
    return 4 * (own.num_weights + own.width)
