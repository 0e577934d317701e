"""Interpreted kernels compute with bfloat16, and cast float8, as torch does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
import triton.language as tl
from triton.runtime.errors import InterpreterError
from triton.runtime.interpreter import InterpretedFunction

from tests.support.kernels.interpreter import interpreted_kernels

BF16, FP32 = torch.bfloat16, torch.float32
EVERY = torch.arange(-(2**15), 2**15).to(torch.int16).view(BF16)
"""All bfloat16: zeros, subnormals, infinities and NaN among them."""


@pytest.fixture(autouse=True)
def interpreted() -> Iterator[None]:
    with interpreted_kernels(), np.errstate(all="ignore"):
        yield


def launch(kernel: Callable[..., None], *arguments: torch.Tensor, **constants: int) -> None:
    InterpretedFunction(kernel)[(1,)](*arguments, **constants)


def assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got.float(), expected.float(), rtol=0, atol=0, equal_nan=True)


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    """Each bfloat16 beside another, near in size for the first half, so that sums are rounded."""
    generator = torch.Generator().manual_seed(0)
    left = EVERY[torch.randperm(len(EVERY), generator=generator)]
    left = torch.where(left.isnan(), torch.nan, left)  # quiet: of others C chooses NaN in fmin
    near = left * torch.randn(len(left), generator=generator).to(BF16)
    far = left[torch.randperm(len(left), generator=generator)]
    return left, torch.where(torch.arange(len(left)) % 2 == 0, near, far)


def _arithmetic(left, right, out, SIZE: tl.constexpr):
    lane = tl.arange(0, SIZE)
    a = tl.load(left + lane)
    b = tl.load(right + lane)
    tl.store(out + lane, a + b)
    tl.store(out + SIZE + lane, a - b)
    tl.store(out + 2 * SIZE + lane, a * b)
    tl.store(out + 3 * SIZE + lane, a / b)
    tl.store(out + 4 * SIZE + lane, -a)
    tl.store(out + 5 * SIZE + lane, tl.abs(a))
    tl.store(out + 6 * SIZE + lane, a * 0.3 + 1)
    tl.store(out + 7 * SIZE + lane, tl.minimum(a, b))
    tl.store(out + 8 * SIZE + lane, tl.maximum(a, b))
    tl.store(out + 9 * SIZE + lane, tl.clamp(a, b, b + 1))


def test_each_operation_is_rounded_to_nearest_even() -> None:
    a, b = pairs()
    out = torch.zeros(10, len(a), dtype=BF16)

    launch(_arithmetic, a, b, out, SIZE=len(a))

    scaled = a * torch.tensor(0.3).to(BF16) + 1  # a constant takes the tensor's dtype first
    expected = [a + b, a - b, a * b, a / b, -a, a.abs(), scaled]
    expected += [a.fmin(b), a.fmax(b), a.fmax(b).fmin(b + 1)]
    for got, want in zip(out, expected, strict=True):
        assert_same(got, want)


def _comparisons(left, right, out, chosen, SIZE: tl.constexpr):
    lane = tl.arange(0, SIZE)
    a = tl.load(left + lane)
    b = tl.load(right + lane)
    less = a < b
    tl.store(out + lane, less)
    tl.store(out + SIZE + lane, a <= b)
    tl.store(out + 2 * SIZE + lane, a > b)
    tl.store(out + 3 * SIZE + lane, a >= b)
    tl.store(out + 4 * SIZE + lane, a == b)
    tl.store(out + 5 * SIZE + lane, a != b)
    tl.store(chosen + lane, tl.where(less, a, b))
    tl.store(chosen + SIZE + lane, less.to(tl.float32) * 3)


def test_comparisons_know_signs_and_nan() -> None:
    a, b = pairs()
    b[::7] = a[::7]
    out = torch.zeros(6, len(a), dtype=torch.bool)
    chosen = torch.zeros(2, len(a), dtype=BF16)

    launch(_comparisons, a, b, out, chosen, SIZE=len(a))

    expected = [a < b, a <= b, a > b, a >= b, a == b, a != b]
    assert torch.equal(out, torch.stack(expected))
    assert torch.equal(chosen[0].view(torch.int16), torch.where(a < b, a, b).view(torch.int16))
    assert_same(chosen[1], (a < b) * 3)


def _cast(source, target, SIZE: tl.constexpr):
    lane = tl.arange(0, SIZE)
    tl.store(target + lane, tl.load(source + lane).to(target.dtype.element_ty))


def cast(source: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    target = torch.zeros(source.shape, dtype=dtype)
    launch(_cast, source, target, SIZE=source.numel())
    return target


def around_ties() -> torch.Tensor:
    """float32 at, above and below the middle between two bfloat16, everywhere."""
    high = torch.arange(2**16, dtype=torch.int64) << 16
    low = torch.tensor([0, 0x7FFF, 0x8000, 0x8001])
    return (high[:, None] + low).flatten().to(torch.int32).view(FP32)


def test_float32_is_rounded_to_nearest_even() -> None:
    assert_same(cast(around_ties(), BF16), around_ties().to(BF16))
    integers = torch.randint(-(2**24), 2**24, (4096,), dtype=torch.int32)
    assert_same(cast(integers, BF16), integers.to(BF16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_every_bfloat16_is_cast_to(dtype: torch.dtype) -> None:
    assert_same(cast(EVERY, dtype), EVERY.to(dtype))


def test_float16_and_integers_meet_bfloat16() -> None:
    halves = EVERY.view(torch.float16)
    assert_same(cast(halves, BF16), halves.to(BF16))
    numbers = EVERY[EVERY.abs() < 2**31].view(-1)[: 2**14]
    assert torch.equal(cast(numbers, torch.int32), numbers.to(torch.int32))


@pytest.mark.parametrize("narrow", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("wide", [BF16, torch.float16, FP32])
def test_float8_is_cast_from_and_to(wide: torch.dtype, narrow: torch.dtype) -> None:
    every = torch.arange(256).to(torch.uint8).view(narrow)
    assert_same(cast(every, wide), every.to(wide))

    values = {BF16: EVERY, torch.float16: EVERY.view(torch.float16), FP32: around_ties()}[wide]
    limit = torch.finfo(narrow).max
    assert_same(cast(values, narrow), values.float().clamp(-limit, limit).to(narrow))


def _bitcast(source, target, SIZE: tl.constexpr):
    lane = tl.arange(0, SIZE)
    bits = tl.load(source + lane).to(tl.int16, bitcast=True)
    tl.store(target + lane, (bits ^ 1).to(tl.bfloat16, bitcast=True))


def test_bits_are_taken_as_they_are() -> None:
    target = torch.empty_like(EVERY)
    launch(_bitcast, EVERY, target, SIZE=len(EVERY))
    assert torch.equal(target.view(torch.int16), EVERY.view(torch.int16) ^ 1)


def _product(left, right, out, ROWS: tl.constexpr, INNER: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.arange(0, ROWS)[:, None]
    inner = tl.arange(0, INNER)
    column = tl.arange(0, COLUMNS)[None, :]
    a = tl.load(left + row * INNER + inner[None, :])
    b = tl.load(right + inner[:, None] * COLUMNS + column).to(a.dtype)
    start = tl.full([ROWS, COLUMNS], 1.0, tl.float32)
    tl.store(out + row * COLUMNS + column, tl.dot(a, b, start))


@pytest.mark.parametrize("dtype", [BF16, torch.float8_e4m3fn])
def test_products_are_exact_and_summed_in_float32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(16, 64, generator=generator).to(BF16)
    b = torch.randn(64, 32, generator=generator).to(dtype)
    out = torch.zeros(16, 32)

    launch(_product, a, b, out, ROWS=16, INNER=64, COLUMNS=32)

    torch.testing.assert_close(out.double(), a.double() @ b.double() + 1, rtol=1e-5, atol=1e-5)


def _reductions(source, out, places, SIZE: tl.constexpr):
    values = tl.load(source + tl.arange(0, SIZE))
    tl.store(out, tl.sum(values))
    tl.store(out + 1, tl.sum(values, dtype=tl.float32))
    tl.store(out + 2, tl.max(values))
    tl.store(out + 3, tl.min(values))
    tl.store(places, tl.argmax(values, axis=0))
    tl.store(places + 1, tl.argmin(values, axis=0))
    tl.store(out + 4 + tl.arange(0, SIZE), tl.cumsum(values))


def test_reductions_know_signs_and_round_each_sum() -> None:
    out, places = torch.zeros(12), torch.zeros(2, dtype=torch.int32)
    values = torch.tensor([-3.5, 2.0, 7.0, -8.0, 0.5, 1.0, -0.25, 4.0], dtype=BF16)
    launch(_reductions, values, out, places, SIZE=8)
    assert out[:4].tolist() == [2.75, 2.75, 7.0, -8.0]
    assert places.tolist() == [2, 3]
    assert_same(out[4:], values.float().cumsum(0))

    launch(_reductions, torch.tensor([256.0, 1.0], dtype=BF16), out, places, SIZE=2)
    assert out[:2].tolist() == [256.0, 257.0]
    assert out[4:6].tolist() == [256.0, 256.0]


def _add_atomically(target, values, olds, SIZE: tl.constexpr):
    lane = tl.arange(0, SIZE)
    old = tl.atomic_add(target + lane % 2, tl.load(values + lane), mask=lane < 5)
    tl.store(olds + lane, old, lane < 5)


def test_atomic_additions_meet_and_are_rounded_one_by_one() -> None:
    target = torch.tensor([256.0, 0.5], dtype=BF16)
    values, olds = torch.ones(8, dtype=BF16), torch.zeros(8, dtype=BF16)
    launch(_add_atomically, target, values, olds, SIZE=8)
    assert target.tolist() == [256.0, 2.5]
    assert olds.tolist() == [256.0, 0.5, 256.0, 1.5, 256.0, 0, 0, 0]


def _masked(source, out, SIZE: tl.constexpr):
    lane = tl.arange(0, SIZE)
    tl.store(out + lane, tl.load(source + lane, lane < 2, other=float("-inf")))
    tl.store(out + SIZE + lane, tl.load(source + lane, lane < 2, other=0.3))


def test_masked_lanes_take_the_value_that_is_named() -> None:
    out = torch.zeros(2, 4, dtype=BF16)
    launch(_masked, torch.ones(4, dtype=BF16), out, SIZE=4)
    assert out[0].tolist() == [1, 1, -torch.inf, -torch.inf]
    assert_same(out[1], torch.tensor([1, 1, 0.3, 0.3], dtype=BF16))


def _fused(source, SIZE: tl.constexpr):
    values = tl.load(source + tl.arange(0, SIZE))
    tl.store(source + tl.arange(0, SIZE), tl.fma(values, values, values))


def _cut(source, SIZE: tl.constexpr):
    values = tl.load(source + tl.arange(0, SIZE)).to(tl.float32)
    tl.store(source + tl.arange(0, SIZE), values.to(tl.bfloat16, fp_downcast_rounding="rtz"))


@pytest.mark.parametrize("kernel", [_fused, _cut])
def test_what_is_not_made_is_refused(kernel: Callable[..., None]) -> None:
    with pytest.raises(InterpreterError, match="NotImplementedError"):
        launch(kernel, torch.ones(4, dtype=BF16), SIZE=4)
