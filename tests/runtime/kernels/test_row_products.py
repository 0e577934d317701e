"""Products of a few rows, with what is fused into them."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels import reference
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import FLOATS, assert_rounded
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.tuning.few_rows import rows_tile
from octavo.kernels.reference import device as oracle

ROWS = st.integers(1, gpu.max_fused_rows)
# Around a warp's, a program's and a loop's step, and widths that none of them divides.
WIDTHS = st.integers(1, 700) | st.sampled_from([256, 512, 896, 1024, 2048, 2560, 3072])
OUTPUTS = st.integers(1, 40)


def numbers(device: torch.device, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype).to(device)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(FLOATS), ROWS, WIDTHS, OUTPUTS, st.booleans())
def test_a_product_behind_a_norm(
    device: torch.device, dtype: torch.dtype, rows: int, width: int, outputs: int, has_bias: bool
) -> None:
    x = numbers(device, dtype, rows, width) * 3
    norm_weight = numbers(device, dtype, width)
    weight = numbers(device, dtype, outputs, width) * width**-0.5
    bias = numbers(device, dtype, outputs) if has_bias else None

    with poisoned_memory():
        got = gpu.norm_linear(x, norm_weight, 1e-5, weight, bias)

    exact = oracle.norm_linear(
        x.double(),
        norm_weight.double(),
        1e-5,
        weight.double(),
        None if bias is None else bias.double(),
    )
    assert got.dtype == dtype
    assert_rounded(got, exact)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(FLOATS), ROWS, WIDTHS, OUTPUTS, st.booleans())
def test_gate_and_up_behind_a_norm(
    device: torch.device, dtype: torch.dtype, rows: int, hidden: int, width: int, is_gelu: bool
) -> None:
    x = numbers(device, dtype, rows, hidden) * 3
    norm_weight = numbers(device, dtype, hidden)
    weight = numbers(device, dtype, 2 * width, hidden) * hidden**-0.5

    with poisoned_memory():
        got = gpu.norm_gate_up(x, norm_weight, 1e-5, weight, is_gelu=is_gelu)

    exact = oracle.norm_gate_up(
        x.double(), norm_weight.double(), 1e-5, weight.double(), is_gelu=is_gelu
    )
    assert got.dtype == dtype
    assert_rounded(got, exact)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(FLOATS), ROWS, WIDTHS, OUTPUTS)
def test_a_product_is_added_where_the_residual_lies(
    device: torch.device, dtype: torch.dtype, rows: int, width: int, outputs: int
) -> None:
    x = numbers(device, dtype, rows, width)
    weight = numbers(device, dtype, outputs, width) * width**-0.5
    # What lies behind the rows belongs to others.
    memory = numbers(device, dtype, rows + 1, outputs)
    residual, behind = memory[:rows], memory[rows:].clone()
    exact = residual.double()
    oracle.linear_add(x.double(), weight.double(), exact)

    gpu.linear_add(x, weight, residual)

    assert_rounded(residual, exact)
    assert torch.equal(memory[rows:], behind)


def test_the_reference_rounds_once() -> None:
    """Of 1 + 2⁻⁸, bfloat16 keeps 1: a norm that was rounded first would lose what the product brings back."""
    x = torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16)
    norm_weight = torch.tensor([1.00390625, 1.0])  # of float32, as offset norms have
    weight = torch.tensor([[256.0, -256.0]], dtype=torch.bfloat16)
    got = oracle.norm_linear(x, norm_weight, 0.0, weight)
    torch.testing.assert_close(got, torch.tensor([[1.0]], dtype=torch.bfloat16))
    rounded_first = reference.rms_norm(x, norm_weight.bfloat16(), 0.0) @ weight.T
    assert rounded_first.item() == 0.0


@given(st.integers(1, 4), st.integers(1, 30_000), st.integers(1, 30_000), st.sampled_from([2, 4]))
def test_tiles_are_whole_loads_of_their_threads(
    rows: int, outputs: int, width: int, element_bytes: int
) -> None:
    tile = rows_tile(rows, outputs, width, element_bytes, 132)
    assert tile.rows in (1, 2, 4)
    assert tile.rows >= rows
    assert tile.inner in (32 * tile.num_warps * tile.group, 64 * tile.num_warps * tile.group)
    assert tile.group * element_bytes == 16
