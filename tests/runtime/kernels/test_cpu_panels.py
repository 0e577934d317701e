"""Products with weights in panels, against the same weights in double precision."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)
from octavo.kernels.cpu.products.pack_panels import pack
from octavo.kernels.cpu.products.panel_linear import PanelLinear
from octavo.kernels.cpu.products.panel_rows import rows_of_panels
from octavo.kernels.cpu.products.weight_memory import allocate
from octavo.kernels.cpu.products.weight_panels import PanelFormat, takes
from octavo.kernels.numba_setup import TARGETS, cpu_flags, x86_target
from octavo.kernels.reference.weight_only import quantize_int4, quantize_int8
from tests.support.kernels.exact_products import check, numbers
from tests.support.kernels.poison import poisoned_memory

CASES = [
    (PanelFormat.BFLOAT16, torch.float32),
    (PanelFormat.FLOAT16, torch.float32),
    (PanelFormat.BFLOAT16, torch.bfloat16),
    (PanelFormat.INT8, torch.bfloat16),
    (PanelFormat.INT4, torch.bfloat16),
    (PanelFormat.INT8, torch.float32),
    (PanelFormat.INT4, torch.float32),
]


def rounded(weight: torch.Tensor, panel_format: PanelFormat) -> torch.Tensor:
    """What the panels stand for."""
    if panel_format is PanelFormat.INT8:
        return quantize_int8(weight).dequantize()
    if panel_format is PanelFormat.INT4:
        return quantize_int4(weight).dequantize()
    return weight.float()


def of_its_dtype(
    weight: torch.Tensor, panel_format: PanelFormat, other: torch.dtype
) -> torch.Tensor:
    """What the panels take."""
    stored = {PanelFormat.BFLOAT16: torch.bfloat16, PanelFormat.FLOAT16: torch.float16}
    return weight.to(stored.get(panel_format, other))


@pytest.mark.parametrize(("panel_format", "dtype"), CASES)
@settings(max_examples=12, deadline=None)
@given(
    rows=st.integers(0, 21),
    sixteenths=st.integers(1, 9),
    groups=st.integers(1, 9),
    has_bias=st.booleans(),
    is_stored_narrow=st.booleans(),
)
def test_products_equal_those_of_the_rounded_weight(
    panel_format: PanelFormat,
    dtype: torch.dtype,
    rows: int,
    sixteenths: int,
    groups: int,
    has_bias: bool,
    is_stored_narrow: bool,
) -> None:
    width, depth = 16 * sixteenths, panel_format.depth_multiple * groups
    other = torch.bfloat16 if is_stored_narrow else torch.float32
    weight = of_its_dtype(numbers(width, depth, seed=depth), panel_format, other)
    bias = numbers(width, seed=2).to(dtype) if has_bias else None
    x = numbers(rows, depth, seed=3).to(dtype)
    with poisoned_memory():
        result = PanelLinear(pack(weight, panel_format), dtype, bias)(x)
    assert result.dtype is dtype
    check(result, x, rounded(weight, panel_format), bias)


@pytest.mark.parametrize(("panel_format", "dtype"), CASES)
def test_a_row_comes_out_the_same_alone_and_among_a_thousand(
    panel_format: PanelFormat, dtype: torch.dtype
) -> None:
    """More rows than one block holds."""
    weight = of_its_dtype(numbers(2224, 512), panel_format, dtype)
    linear = PanelLinear(pack(weight, panel_format), dtype, None)
    x = numbers(1001, 512, seed=1).to(dtype)
    together = linear(x)
    for first, last in ((0, 1), (3, 5), (7, 11), (500, 508), (990, 1001)):
        assert torch.equal(linear(x[first:last]), together[first:last])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_the_work_without_changing_it(threads: int) -> None:
    weight, x = numbers(400, 64), numbers(9, 64, seed=1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        check(
            PanelLinear(pack(weight, PanelFormat.INT8), torch.float32, None)(x),
            x,
            rounded(weight, PanelFormat.INT8),
            None,
        )
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", [6, 4000])
@pytest.mark.parametrize(
    ("panel_format", "dtype"),
    [
        (PanelFormat.BFLOAT16, torch.bfloat16),
        (PanelFormat.BFLOAT16, torch.float32),
        (PanelFormat.FLOAT16, torch.float32),
        (PanelFormat.INT8, torch.float32),
        (PanelFormat.INT8, torch.bfloat16),
    ],
)
def test_rows_of_the_weight_can_be_looked_up(
    panel_format: PanelFormat, dtype: torch.dtype, count: int
) -> None:
    weight = of_its_dtype(numbers(80, 24), panel_format, torch.bfloat16)
    features = torch.tensor([0, 79, 31, 32, 17, 17]).repeat(1 + count // 6)[:count]
    found = rows_of_panels(pack(weight, panel_format), features, dtype)
    assert torch.equal(found, rounded(weight, panel_format)[features].to(dtype))
    weight[17] = 0
    assert (rows_of_panels(pack(weight, panel_format), features[4:6], dtype) == 0).all()


def test_rows_of_int4_panels_are_refused() -> None:
    with pytest.raises(ValueError, match="int4"):
        rows_of_panels(pack(numbers(16, 32), PanelFormat.INT4), torch.tensor([0]), torch.float32)


def test_integers_take_the_memory_of_integers() -> None:
    weight = numbers(4096, 1024)
    held = {
        one: pack(of_its_dtype(weight, one, torch.bfloat16), one).num_bytes / weight.numel()
        for one in PanelFormat
        if not one.is_grouped
    }
    assert held[PanelFormat.BFLOAT16] == held[PanelFormat.FLOAT16] == 2.0
    assert held[PanelFormat.INT8] == 1.0 + 4 / 1024
    assert held[PanelFormat.INT4] == 0.5 + 2 / 32


def test_weights_share_memory_without_overlap() -> None:
    sizes = [1, 64, 100, 2**21, 2**24 + 1, 2**25, 2**25 - 64, 3]
    parts = [allocate(size) for size in sizes]
    for number, part in enumerate(parts):
        assert part.data_ptr() % 64 == 0
        part.fill_(number)
    for number, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        assert part.shape == (size,)
        assert (part == number).all()


def test_shapes_that_fill_no_vectors_are_not_taken() -> None:
    assert takes(torch.empty(48, 40), PanelFormat.INT8)
    assert not takes(torch.empty(48, 40), PanelFormat.INT4)
    assert not takes(torch.empty(40, 32), PanelFormat.INT8)
    assert not takes(torch.empty(48, 36), PanelFormat.BFLOAT16)
    with pytest.raises(ValueError, match=r"\[40, 32\]"):
        pack(torch.empty(40, 32), PanelFormat.INT8)


# A target without AVX512-BF16 widens bfloat16 inputs and weights.
_WIDENED = """
import torch
from octavo.kernels.cpu.products.pack_panels import pack
from octavo.kernels.cpu.products.panel_linear import PanelLinear
from octavo.kernels.cpu.products.unpack_panels import has_pair_products
from octavo.kernels.cpu.products.weight_panels import PanelFormat
assert not has_pair_products()
weight = torch.arange(48 * 64).view(48, 64) % 255 - 127.0
weight[:, 0] = 127
x = (torch.arange(11 * 64).view(11, 64) % 7 - 3).bfloat16()
result = PanelLinear(pack(weight, PanelFormat.INT8), torch.bfloat16, None)(x)
assert torch.equal(result, (x.float() @ weight.T).bfloat16()), result
print("equal")
"""


@pytest.mark.skipif(x86_target(cpu_flags()) is None, reason="not for this CPU")
def test_cpus_without_pair_products_widen_both_sides() -> None:
    target = TARGETS[0]
    done = subprocess.run(
        [sys.executable, "-c", _WIDENED],
        env=os.environ | {"NUMBA_CPU_NAME": target.level, "NUMBA_CPU_FEATURES": target.features},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr
