"""Of a weight whose groups lie apart a rank's inputs are the same numbers, in groups of one size."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.reference.weight_only import Code, QuantizedWeight
from octavo.quantization.input_order import of_scattered_inputs, scattered_columns
from octavo.quantization.stored import StoredWeight


@pytest.mark.parametrize("has_zeros", [False, True])
@pytest.mark.parametrize("group", [8, 32, 128])
@pytest.mark.parametrize("inputs", [range(64), range(64, 256), range(250, 251)])
def test_columns_of_some_inputs_are_those_of_the_whole(
    inputs: range, group: int, has_zeros: bool
) -> None:
    generator = torch.Generator().manual_seed(group)
    width, depth = 5, 256

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randint(-8, 8, shape, dtype=torch.int8, generator=generator)

    scales = torch.rand(width, depth // group, generator=generator)
    zeros = drawn(width, depth // group) if has_zeros else None
    order = torch.randperm(depth, generator=generator)
    part = StoredWeight(Code.INT4, QuantizedWeight(drawn(width, depth), scales, zeros), order)
    own = of_scattered_inputs(part, order, inputs)
    expected = part.dequantize()[:, inputs.start : inputs.stop]
    torch.testing.assert_close(own.dequantize(), expected, rtol=0, atol=0)
    assert own.weight.group == scattered_columns(len(inputs), depth, group)[1]
    assert own.weight.codes.shape[1] <= len(inputs) + depth // group * own.weight.group
