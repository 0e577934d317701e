from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels import reference
from octavo.kernels.select import kernels_for
from tests.support.kernels.poison import poisoned_memory
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)
from octavo.kernels import cpu
from octavo.kernels.cpu.products.small_linear import SmallLinear

DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_cpu_gets_its_own_kernels() -> None:
    assert kernels_for(torch.device("cpu")) is cpu


@settings(max_examples=30, deadline=None)
@given(DTYPES, DTYPES, st.integers(0, 9), st.integers(1, 20), st.sampled_from([1, 8, 16]))
def test_norms_equal_the_reference(
    dtype: torch.dtype, weight_dtype: torch.dtype, rows: int, sixteenths: int, unit: int
) -> None:
    width = sixteenths * unit  # also widths that are no whole vectors
    residual, delta = numbers(2, rows, width, seed=width).to(dtype)
    weight = numbers(width, seed=1).to(weight_dtype)
    expected_residual = residual.clone()
    expected = reference.add_rms_norm(expected_residual, delta, weight, 1e-6)
    with poisoned_memory():
        alone = cpu.rms_norm(expected_residual, weight, 1e-6)
        fused = cpu.add_rms_norm(residual, delta, weight, 1e-6)
    assert torch.equal(residual, expected_residual)
    for result in (alone, fused):
        torch.testing.assert_close(result, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_a_norm_of_rows_that_lie_apart_equals_the_reference() -> None:
    x, weight = numbers(5, 64)[:, :32], numbers(32)
    torch.testing.assert_close(
        cpu.rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6), rtol=2e-6, atol=2e-6
    )


@settings(max_examples=20, deadline=None)
@given(
    st.booleans(),
    DTYPES,
    st.integers(0, 5),
    st.sampled_from([8, 16, 48, 384]),
    st.floats(0.1, 100),
)
def test_the_gates_equal_torchs_in_double_precision(
    is_gelu: bool, dtype: torch.dtype, rows: int, width: int, spread: float
) -> None:
    gate_up = (numbers(rows, 2 * width, seed=width) * spread).to(dtype)
    with poisoned_memory():
        result = (cpu.gelu_and_mul if is_gelu else cpu.silu_and_mul)(gate_up)
    gate, up = gate_up.double().chunk(2, dim=-1)
    tolerance = TOLERANCE[dtype]
    expected = (F.gelu(gate, approximate="tanh") if is_gelu else F.silu(gate)) * up
    # 1 + tanh of a negative number cancels: it errs by a rounding of 1, which `gate * up` multiplies.
    cancelled = is_gelu * torch.finfo(torch.float32).eps * (gate * up).abs()
    allowed = tolerance * (1 + 2 * expected.abs()) + cancelled
    assert ((result.double() - expected).abs() <= allowed).all()


@pytest.mark.parametrize("gated", [cpu.silu_and_mul, cpu.gelu_and_mul])
def test_a_gate_far_outside_keeps_its_limits(gated: Any) -> None:
    gate = torch.tensor([[-1e4, -100.0, -88.0, 88.0, 100.0, 1e4] + [0.0] * 10])
    result = gated(torch.cat([gate, torch.ones(1, 16)], dim=-1))
    torch.testing.assert_close(result[0, 3:6], gate[0, 3:6])
    assert result[0, :3].abs().max() < 1e-30


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "width"), [(3, 64), (900, 48), (2, 24)])
def test_a_stream_is_summed_into_rows_that_lie_apart(
    dtype: torch.dtype, rows: int, width: int
) -> None:
    residual, pending = (numbers(rows, width, seed=seed).to(dtype) for seed in (1, 2))
    memory = torch.full((rows, 3 * width), 7.0, dtype=dtype)
    for delta, expected in ((pending, residual + pending), (None, residual)):
        cpu.sum_stream(residual, delta, memory[:, width : 2 * width])
        assert torch.equal(memory[:, width : 2 * width], expected)
    assert (memory[:, :width] == 7).all()
    assert (memory[:, 2 * width :] == 7).all()


def test_nan_stays_nan() -> None:
    x = torch.ones(1, 32, dtype=torch.bfloat16)
    x[0, 3] = torch.nan
    assert cpu.rms_norm(x, torch.ones(32, dtype=torch.bfloat16), 1e-6).isnan().all()
    assert cpu.silu_and_mul(x)[0, 3].isnan()
    assert cpu.gelu_and_mul(x)[0, 3].isnan()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 13), st.integers(1, 20), st.integers(1, 90), st.booleans(), st.booleans())
def test_small_products_equal_torchs(
    rows: int, out_sixteenths: int, in_pairs: int, has_bias: bool, is_bfloat16: bool
) -> None:
    """Weights that bfloat16 holds exactly take another path than those it would round."""
    width, depth = 16 * out_sixteenths, 2 * in_pairs
    weight = numbers(width, depth, seed=depth)
    weight = weight.bfloat16().float() if is_bfloat16 else weight
    bias = numbers(width, seed=2) if has_bias else None
    x = numbers(rows, depth, seed=3)
    with poisoned_memory():
        result = SmallLinear(weight, bias)(x)
    torch.testing.assert_close(result, F.linear(x, weight, bias), rtol=1e-4, atol=1e-4)
