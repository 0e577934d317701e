"""Products with packed weights: every code, group and size, in every dtype."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels.packed_weight import PLANE, fits, pack, packed_bytes
from octavo.kernels.reference.weight_only import Code
from tests.support.kernels.packed_weights import assert_product, packed, quantized
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import FLOATS
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.tuning import chips
from octavo.kernels.gpu.tuning.packed import num_parts, packed_config
from octavo.kernels.reference import device as oracle

# Some planes, blocks and a part of one; what divides neither is one group.
GROUPS = st.sampled_from([16, 32, 48, 64, 128])
CODES = st.sampled_from(list(Code))


@st.composite
def forms(draw: st.DrawFn) -> tuple[Code, tuple[int, int, int]]:
    """Code, and width, depth and group."""
    code, width = draw(CODES), draw(st.integers(1, 70))
    if code is Code.MXFP4:
        return code, (width, 32 * draw(st.integers(1, 9)), 32)
    return code, draw(shapes(width))


@st.composite
def shapes(draw: st.DrawFn, width: int) -> tuple[int, int, int]:
    if draw(st.booleans()):
        depth = draw(st.integers(1, 300))
        return width, depth, depth
    group = draw(GROUPS)
    return width, group * draw(st.integers(1, max(1, 300 // group))), group


def numbers(device: torch.device, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype).to(device)


@given(forms(), st.booleans())
def test_what_is_packed_comes_back(
    form_of: tuple[Code, tuple[int, int, int]], has_zeros: bool
) -> None:
    code, shape = form_of
    weight = quantized(code, *shape, has_zeros=has_zeros)
    form = pack(weight, code)
    found = form.unpack()
    assert torch.equal(found.codes.view(torch.uint8), weight.codes.view(torch.uint8))
    assert torch.equal(found.dequantize(), weight.dequantize())
    width, depth, group = shape
    has_zeros = weight.zeros is not None
    assert form.num_bytes == packed_bytes(width, depth, code, group, has_zeros=has_zeros)


def test_groups_that_planes_do_not_fill_are_refused() -> None:
    assert not fits(96, 24, Code.INT4)
    assert fits(24, 24, Code.INT4)
    assert not fits(96, 16, Code.MXFP4)
    with pytest.raises(ValueError, match="groups are of 24"):
        pack(quantized(Code.INT4, 4, 96, 24, has_zeros=False), Code.INT4)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(FLOATS), st.integers(1, 36), forms(), *[st.booleans()] * 3)
def test_a_product_is_that_of_the_dequantised_weight(
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    form_of: tuple[Code, tuple[int, int, int]],
    has_zeros: bool,
    has_bias: bool,
    is_aligned: bool,
) -> None:
    code, shape = form_of
    weight = quantized(code, *shape, has_zeros=has_zeros and code is not Code.FLOAT8)
    form = packed(weight, code, device)
    x = numbers(device, dtype, rows, shape[1])
    bias = numbers(device, dtype, shape[0]) if has_bias else None

    with poisoned_memory(), mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", 2):
        got = gpu.packed_linear(x, form, bias, is_aligned=is_aligned)

    assert got.dtype == dtype
    assert_product(got, x, weight, bias)
    assert_product(oracle.packed_linear(x, form, bias), x, weight, bias)
    if is_aligned:
        assert got.stride(0) % 64 == 0


@pytest.mark.parametrize("has_bias", [False, True])
def test_parts_of_a_product_are_added_up(device: torch.device, has_bias: bool) -> None:
    """What a decode step takes: more programs than outputs give, of which the last has less to do."""
    width, depth = 40, 128 * 17
    weight = quantized(Code.INT4, width, depth, 128, has_zeros=True)
    x = numbers(device, torch.bfloat16, 3, depth)
    bias = numbers(device, torch.bfloat16, width) if has_bias else None
    config = packed_config(torch.bfloat16, 3)
    assert num_parts(config, chips.multiprocessors_of(device), 3, width, 17) == 4

    with poisoned_memory():
        got = gpu.packed_linear(x, packed(weight, Code.INT4, device), bias)

    assert_product(got, x, weight, bias)


def test_a_product_of_no_rows(device: torch.device) -> None:
    weight = packed(quantized(Code.INT8, 8, 64, 64, has_zeros=False), Code.INT8, device)
    assert gpu.packed_linear(numbers(device, torch.float32, 0, 64), weight).shape == (0, 8)


@given(st.integers(1, 5000), st.integers(1, 20_000), st.integers(1, 400), st.sampled_from([1, 108]))
def test_every_block_of_inputs_is_some_part_s(
    rows: int, width: int, blocks: int, multiprocessors: int
) -> None:
    config = packed_config(torch.bfloat16, rows)
    parts = num_parts(config, multiprocessors, rows, width, blocks)
    power = 1 << (rows - 1).bit_length()
    assert num_parts(config, multiprocessors, power, width, blocks) == parts
    assert packed_config(torch.bfloat16, power) == config
    assert parts * -(-blocks // parts) >= blocks
    assert PLANE == 16
