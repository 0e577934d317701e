"""Products with weights of quantised checkpoints, against the same weights in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)


from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import part
from octavo.kernels.cpu.products import register_blocks
from octavo.kernels.cpu.products.grouped_tile import make_grouped_tile
from octavo.kernels.cpu.products.pack_grouped import pack_grouped
from octavo.kernels.cpu.products.pack_panels import pack
from octavo.kernels.cpu.products.panel_linear import PanelLinear
from octavo.kernels.cpu.products.panel_rows import rows_of_panels
from octavo.kernels.cpu.products.panel_tile import make_tile
from octavo.kernels.cpu.products.weight_panels import Grouping, PanelFormat, packed_bytes
from octavo.kernels.fp4 import powers_of_two
from octavo.kernels.reference.weight_only import QuantizedWeight, quantize_int4, quantize_int8
from tests.support.kernels.emulated_pairs import emulated_pairs
from tests.support.kernels.poison import poisoned_memory

GROUPED = [one for one in PanelFormat if one.is_grouped]
DTYPES = [torch.bfloat16, torch.float32]


def random_weight(
    panel_format: PanelFormat, width: int, depth: int, group: int, has_zeros: bool, seed: int = 0
) -> QuantizedWeight:
    """Every code of the format is likely to be there, the least and the largest too."""
    generator = torch.Generator().manual_seed(seed)

    if panel_format is PanelFormat.GROUPED_MXFP4:
        groups = (width, depth // group)
        exponents = torch.randint(0, 132, groups, generator=generator, dtype=torch.uint8)
        codes = torch.randint(16, (width, depth), generator=generator, dtype=torch.uint8)
        return QuantizedWeight(codes, powers_of_two(exponents))

    def integers(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator).to(torch.int8)

    low, high = (-8, 8) if panel_format is PanelFormat.GROUPED_INT4 else (-128, 128)
    codes = integers(low, high, width, depth)
    if panel_format is PanelFormat.GROUPED_FLOAT8:
        codes[(codes & 127) == 127] = 1  # no NaN
        codes = codes.view(torch.float8_e4m3fn)
    scales = torch.rand(width, depth // group, generator=generator)
    zeros = integers(low, high, width, depth // group) if has_zeros else None
    return QuantizedWeight(codes, scales, zeros)


def inputs(rows: int, depth: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(rows, depth, generator=torch.Generator().manual_seed(1)).to(dtype)


def check(result: torch.Tensor, x: torch.Tensor, weight: QuantizedWeight) -> None:
    """Sums in float32 are off by an ulp for each term at most, where codes and zeros are terms of their own;
    then the result is rounded."""
    x = x.double()
    expected = x @ weight.dequantize().double().T
    repeated = weight.group
    scales = weight.scales.abs().double().repeat_interleave(repeated, 1)
    terms = QuantizedWeight(weight.codes, torch.ones(len(scales), 1)).dequantize().abs().double()
    if weight.zeros is not None:
        terms = terms + weight.zeros.double().abs().repeat_interleave(repeated, 1)
    summed = x.abs() @ (terms * scales).T
    last = 2**-8 if result.dtype is torch.bfloat16 else 2**-23
    allowed = (weight.codes.shape[1] + 8) * 2**-24 * summed + last * expected.abs()
    allowed += torch.finfo(torch.float32).tiny  # what is less is no normal number
    assert ((result.double() - expected).abs() <= allowed).all()


@pytest.mark.parametrize("panel_format", GROUPED)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(0, 21),
    sixteenths=st.integers(1, 9),
    steps=st.integers(1, 9),
    groups=st.integers(1, 9),
    has_zeros=st.booleans(),
    is_transposed=st.booleans(),
)
def test_products_equal_those_of_the_dequantised_weight(
    panel_format: PanelFormat,
    dtype: torch.dtype,
    rows: int,
    sixteenths: int,
    steps: int,
    groups: int,
    has_zeros: bool,
    is_transposed: bool,
) -> None:
    width, group = 16 * sixteenths, 8 * steps
    weight = random_weight(panel_format, width, group * groups, group, has_zeros, seed=width)
    if is_transposed:
        codes = weight.codes.view(torch.int8).T.contiguous().T.view(weight.codes.dtype)
        weight = QuantizedWeight(codes, weight.scales, weight.zeros)
    x = inputs(rows, group * groups, dtype)
    with poisoned_memory():
        result = PanelLinear(pack_grouped(weight, panel_format), dtype, None)(x)
    assert result.dtype is dtype
    check(result, x, weight)


@pytest.mark.parametrize("panel_format", GROUPED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_comes_out_the_same_alone_and_among_a_thousand(
    panel_format: PanelFormat, dtype: torch.dtype
) -> None:
    """More rows than one block holds, whose groups' sums are kept apart."""
    weight = random_weight(panel_format, 2224, 512, 64, has_zeros=True)
    linear = PanelLinear(pack_grouped(weight, panel_format), dtype, None)
    x = inputs(1001, 512, dtype)
    together = linear(x)
    for first, last in ((0, 1), (3, 5), (7, 11), (500, 508), (990, 1001)):
        assert torch.equal(linear(x[first:last]), together[first:last])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_the_work_without_changing_it(threads: int) -> None:
    weight = random_weight(PanelFormat.GROUPED_INT4, 400, 64, 32, has_zeros=True)
    x = inputs(300, 64, torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        panels = pack_grouped(weight, PanelFormat.GROUPED_INT4)
        check(PanelLinear(panels, torch.float32, None)(x), x, weight)
    finally:
        torch.set_num_threads(before)


def test_biases_are_added() -> None:
    weight = random_weight(PanelFormat.GROUPED_INT8, 48, 64, 32, has_zeros=False)
    x, bias = inputs(3, 64, torch.float32), torch.randn(48)
    panels = pack_grouped(weight, PanelFormat.GROUPED_INT8)
    plain = PanelLinear(panels, torch.float32, None)(x)
    assert torch.equal(PanelLinear(panels, torch.float32, bias)(x), plain + bias)


@pytest.mark.parametrize("has_zeros", [False, True])
@pytest.mark.parametrize(
    ("panel_format", "each"),
    [
        (PanelFormat.GROUPED_INT4, 0.5),
        (PanelFormat.GROUPED_INT8, 1.0),
        (PanelFormat.GROUPED_FLOAT8, 1.0),
        (PanelFormat.GROUPED_MXFP4, 0.5),
    ],
)
def test_codes_take_their_bits_scales_four_bytes_and_zeros_two(
    panel_format: PanelFormat, each: float, has_zeros: bool
) -> None:
    """Of mxfp4, which has no zeros, one byte."""
    is_mxfp4 = panel_format is PanelFormat.GROUPED_MXFP4
    has_zeros = has_zeros and not is_mxfp4
    weight = random_weight(panel_format, 4096, 1024, 128, has_zeros)
    panels = pack_grouped(weight, panel_format)
    assert (
        panels.num_bytes / (4096 * 1024) == each + (1 if is_mxfp4 else 6 if has_zeros else 4) / 128
    )
    announced = packed_bytes(4096, 1024, panel_format, Grouping(128, has_zeros))
    assert panels.num_bytes == announced


@pytest.mark.parametrize(("width", "depth", "group"), [(40, 32, 32), (48, 36, 36), (48, 36, 12)])
def test_shapes_that_fill_no_vectors_are_not_taken(width: int, depth: int, group: int) -> None:
    weight = random_weight(PanelFormat.GROUPED_INT8, width, depth, group, has_zeros=False)
    with pytest.raises(ValueError, match=rf"\[{width}, {depth}\] in groups of {group}"):
        pack_grouped(weight, PanelFormat.GROUPED_INT8)


def test_rows_cannot_be_looked_up() -> None:
    weight = random_weight(PanelFormat.GROUPED_INT8, 16, 32, 32, has_zeros=False)
    panels = pack_grouped(weight, PanelFormat.GROUPED_INT8)
    with pytest.raises(ValueError, match="grouped int8"):
        rows_of_panels(panels, torch.tensor([0]), torch.float32)
    assert PanelLinear(panels, torch.float32, None).lookup is None


def run_grouped_tile(
    panel_format: PanelFormat, rows: int
) -> Callable[[torch.Tensor, QuantizedWeight], torch.Tensor]:
    """The first panel's sums, of the tile alone, for inputs in bfloat16."""
    tile = make_grouped_tile(rows, panel_format)

    @part
    def run(x: int, panel: int, sums: int, out: int, depth: int, group: int, zeros: int) -> None:
        inputs, target = v.bfloat16_at(x), v.float32_at(out)
        sums_of = v.float32_at(sums)
        tile(inputs, 0, rows - 1, depth, v.uint8_at(panel), 0, group, zeros, sums_of, target)

    def product(x: torch.Tensor, weight: QuantizedWeight) -> torch.Tensor:
        panels, out = pack_grouped(weight, panel_format), torch.empty(rows, 32)
        sums = x.float().view(rows, -1, weight.group).sum(-1)
        has_zeros = weight.zeros is not None
        pointers = (x.data_ptr(), panels.data.data_ptr(), sums.data_ptr(), out.data_ptr())
        run(*pointers, x.shape[1], weight.group, int(has_zeros))
        return out

    return product


@pytest.mark.parametrize("panel_format", GROUPED)
def test_pairs_of_bfloat16_give_the_same_sums(panel_format: PanelFormat) -> None:
    """The way of CPUs with AVX512-BF16, with its instructions emulated."""
    with emulated_pairs():
        product = run_grouped_tile(panel_format, rows=2)
        for has_zeros in (False, True):
            weight = random_weight(panel_format, 32, 512, 64, has_zeros)
            x = inputs(2, 512, torch.bfloat16)
            check(product(x, weight), x, weight)


@pytest.mark.parametrize("panel_format", GROUPED)
def test_few_registers_give_the_same_sums(
    panel_format: PanelFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tile in blocks, as CPUs without AVX-512 compute it, whose last block is not full."""
    weight, x = random_weight(panel_format, 32, 256, 64, True), inputs(7, 256, torch.bfloat16)
    found = []
    for is_wide in (True, False):
        monkeypatch.setattr(register_blocks, "has_wide_registers", lambda wide=is_wide: wide)
        found.append(run_grouped_tile(panel_format, rows=7)(x, weight))
    assert torch.equal(*found)
    check(found[0], x, weight)


@pytest.mark.parametrize("panel_format", [PanelFormat.BFLOAT16, PanelFormat.INT8, PanelFormat.INT4])
def test_pairs_of_bfloat16_give_the_same_sums_without_groups(panel_format: PanelFormat) -> None:
    panel_at = {
        PanelFormat.BFLOAT16: v.bfloat16_at,
        PanelFormat.INT8: v.int8_at,
        PanelFormat.INT4: v.uint8_at,
    }[panel_format]
    matrix = torch.randn(32, 256, generator=torch.Generator().manual_seed(2)).bfloat16()
    weight = QuantizedWeight(matrix, torch.ones(32, 1))
    if panel_format is not PanelFormat.BFLOAT16:
        quantize = quantize_int8 if panel_format is PanelFormat.INT8 else quantize_int4
        weight = quantize(matrix)
    x, out = inputs(2, 256, torch.bfloat16), torch.empty(2, 32)
    with emulated_pairs():
        tile = make_tile(2)

        @part
        def run(x: int, panel: int, out: int, depth: int) -> None:
            tile(v.bfloat16_at(x), 0, 1, depth, panel_at(panel), 0, v.float32_at(out))

        panels = pack(matrix, panel_format)
        run(x.data_ptr(), panels.data.data_ptr(), out.data_ptr(), 256)
    if panels.scales is not None:
        out *= panels.scales
    check(out, x, weight)
