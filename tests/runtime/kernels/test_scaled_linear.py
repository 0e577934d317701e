"""Products of float8: what rows are rounded to, to the bit, and the product of what they are then."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels.reference import device as oracle
from octavo.kernels.reference.scaled_linear import round_inputs
from octavo.kernels.reference.weight_only import Code
from octavo.kernels.scaled_weight import (
    GROUP,
    RoundedInputs,
    ScaledWeight,
    fits,
    scaled_bytes,
    scaled_weight,
)
from tests.support.kernels.packed_weights import quantized
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import FLOATS
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.scaled.round_inputs import round_groups, round_rows
from octavo.kernels.gpu.scaled.support import float8_fault, multiplies_float8
from octavo.kernels.gpu.tuning import chips

WIDTHS = st.integers(1, 9).map(lambda count: 16 * count)


def numbers(device: torch.device, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Of very different sizes, with a row and a group of zeros where there are several."""
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(shape, generator=generator) * 4 ** torch.randn(shape, generator=generator)
    x[1:2] = 0
    x[-1:, :GROUP] *= 0 if shape[1] > GROUP else 1
    return x.clamp(-3e4, 3e4).to(dtype).to(device)


def weight_of(
    device: torch.device, width: int, depth: int, group: int, input_scale: float | None = None
) -> ScaledWeight:
    own = quantized(Code.FLOAT8, width, depth, group, has_zeros=False)
    scale = None if input_scale is None else torch.tensor([input_scale], device=device)
    found = scaled_weight(own, scale)
    return ScaledWeight(found.codes.to(device), found.scales.to(device), scale)


def assert_scaled(
    got: torch.Tensor, x: torch.Tensor, weight: ScaledWeight, bias: torch.Tensor | None
) -> None:
    """`got` is the product of the rounded rows, summed in float32 in some order and rounded once; matrix
    units add float8 with fewer bits within an instruction."""
    codes, scales = round_inputs(x.cpu(), weight.group, _host(weight.input_scale))
    rows = codes.double() * scales.double().repeat_interleave(weight.group, -1)
    matrix = weight.dequantize().double().cpu()
    exact, size = rows @ matrix.T, rows.abs() @ matrix.abs().T
    if bias is not None:
        exact, size = exact + bias.double().cpu(), size + bias.double().abs().cpu()
    unit = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}[got.dtype]
    of_sum = 2e-6 if got.device.type == "cpu" else 2.0**-11
    error = (got.double().cpu() - exact).abs()
    assert (error <= unit * exact.abs() + of_sum * size + 2.0**-24).all(), error.max()


def _host(scale: torch.Tensor | None) -> torch.Tensor | None:
    return None if scale is None else scale.cpu()


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(FLOATS), st.integers(1, 20), st.integers(1, 330), st.sampled_from([None, 0.03])
)
def test_rows_are_rounded_to_the_bit(
    device: torch.device, dtype: torch.dtype, rows: int, depth: int, scale: float | None
) -> None:
    x = numbers(device, dtype, rows, 16 * depth)
    own = None if scale is None else torch.tensor([scale], device=device)
    with poisoned_memory():
        codes, scales = round_rows(x, own)
    expected, expected_scales = round_inputs(x, x.shape[1], own)
    assert torch.equal(scales, expected_scales)
    assert torch.equal(codes.view(torch.uint8), expected.view(torch.uint8))


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(FLOATS), st.integers(1, 20), st.integers(1, 20))
def test_groups_are_rounded_to_the_bit(
    device: torch.device, dtype: torch.dtype, rows: int, groups: int
) -> None:
    x = numbers(device, dtype, rows, GROUP * groups)
    with poisoned_memory():
        codes, scales = round_groups(x)
    expected, expected_scales = round_inputs(x, GROUP)
    assert torch.equal(scales.T, expected_scales)
    assert torch.equal(codes.view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize("group", [256, GROUP])
def test_what_is_no_number_stays_none(device: torch.device, group: int) -> None:
    x = numbers(device, torch.bfloat16, 3, 256)
    x[0, 5], x[1, 200] = torch.nan, torch.inf
    got = gpu.scaled_linear(x, weight_of(device, 32, 256, group))
    assert not got[:2].isfinite().any()
    assert got[2].isfinite().all()


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(FLOATS),
    st.integers(1, 36),
    WIDTHS,
    st.integers(1, 20),
    st.sampled_from([None, 0.03]),
    st.booleans(),
)
def test_a_product_is_that_of_the_rounded_rows(
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    width: int,
    depth: int,
    scale: float | None,
    has_bias: bool,
) -> None:
    weight = weight_of(device, width, 16 * depth, 16 * depth, scale)
    x = numbers(device, dtype, rows, weight.depth)
    bias = numbers(device, dtype, 1, width)[0] if has_bias else None

    with poisoned_memory():
        got = gpu.scaled_linear(x, weight, bias)

    assert got.dtype == dtype
    assert_scaled(got, x, weight, bias)
    assert_scaled(oracle.scaled_linear(x, weight, bias), x, weight, bias)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(FLOATS),
    st.integers(1, 36),
    WIDTHS,
    st.integers(2, 20),
    st.booleans(),
    st.sampled_from([2, 132]),
)
def test_a_product_in_groups_is_that_of_the_rounded_rows(
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    width: int,
    groups: int,
    has_bias: bool,
    multiprocessors: int,
) -> None:
    """Of many multiprocessors most have a part of the inputs each."""
    weight = weight_of(device, width, GROUP * groups, GROUP)
    x = numbers(device, dtype, rows, weight.depth)
    bias = numbers(device, dtype, 1, width)[0] if has_bias else None

    with (
        poisoned_memory(),
        mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", multiprocessors),
    ):
        got = gpu.scaled_linear(x, weight, bias)

    assert got.dtype == dtype
    assert_scaled(got, x, weight, bias)
    assert_scaled(oracle.scaled_linear(x, weight, bias), x, weight, bias)


@pytest.mark.parametrize("group", [256, GROUP])
def test_a_product_of_no_rows(device: torch.device, group: int) -> None:
    x = numbers(device, torch.bfloat16, 0, 256)
    assert gpu.scaled_linear(x, weight_of(device, 48, 256, group)).shape == (0, 48)


@pytest.mark.parametrize(
    ("shape", "inputs", "is_taken"),
    [
        ((48, 96, 96), RoundedInputs(), True),
        ((48, 96, 96), RoundedInputs(is_static=True), True),
        ((48, 96, 96), RoundedInputs(GROUP), True),  # a group of all inputs
        ((48, 256, GROUP), RoundedInputs(GROUP), True),
        ((48, 256, GROUP), RoundedInputs(), False),
        ((48, 256, 256), RoundedInputs(GROUP), False),
        ((48, 256, 64), RoundedInputs(64), False),
        ((40, 96, 96), RoundedInputs(), False),
        ((48, 90, 90), RoundedInputs(), False),
        ((48, 96, 96), None, False),
    ],
)
def test_sizes_and_scales_that_are_multiplied(
    shape: tuple[int, int, int], inputs: RoundedInputs | None, is_taken: bool
) -> None:
    assert fits(*shape, Code.FLOAT8, inputs) is is_taken
    assert not fits(*shape, Code.INT8, inputs)
    if is_taken and inputs is not None:
        weight = weight_of(torch.device("cpu"), *shape, 0.1 if inputs.is_static else None)
        assert weight.num_bytes == scaled_bytes(*shape, inputs)


def test_a_gpu_whose_products_fail_or_are_wrong_is_told(device: torch.device) -> None:
    assert float8_fault(device) is None
    right = torch._scaled_mm

    def wrong(*args: Any, **named: Any) -> torch.Tensor:
        return right(*args, **named) * 1.1

    with mock.patch.object(torch, "_scaled_mm", wrong):
        assert "wrong by" in str(float8_fault(device))
    missing = RuntimeError("Rowwise scaling is not supported\nException raised from")
    with mock.patch.object(torch, "_scaled_mm", side_effect=missing):
        assert float8_fault(device) == "Rowwise scaling is not supported"


def test_chips_before_compute_capability_8_9_do_not_multiply_it() -> None:
    for capability, expected in ((80, False), (86, False), (89, True), (90, True), (120, True)):
        with mock.patch.object(chips, "_DEFAULT_CAPABILITY", capability):
            assert multiplies_float8(torch.device("cpu")) is expected
