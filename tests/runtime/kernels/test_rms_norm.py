from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels import reference
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import FLOATS, assert_rounded, in_range
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import rms_norm as gpu


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(FLOATS),
    st.sampled_from([4, 1e15]),
    st.integers(0, 19),
    st.integers(1, 700) | st.sampled_from([1024, 4097, 16384]),
)
def test_rows_of_any_width_are_normalised(
    device: torch.device, dtype: torch.dtype, size: float, rows: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(rows * 31 + width)
    wide = torch.randn(rows, width + 3, generator=generator) * in_range(size, dtype)
    x = wide.to(dtype).to(device)[:, :width]
    weight = torch.randn(width, generator=generator).to(dtype).to(device)

    with poisoned_memory():
        got = gpu.rms_norm(x, weight, 1e-5)

    assert got.dtype == dtype
    assert_rounded(got, reference.rms_norm(x.double(), weight.double(), 1e-5))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(FLOATS), st.integers(0, 9), st.integers(1, 600))
def test_the_residual_is_rounded_before_it_is_normalised(
    device: torch.device, dtype: torch.dtype, rows: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(rows * 31 + width)
    residual, delta = torch.randn(2, rows, width, generator=generator).to(dtype).to(device)
    weight = torch.randn(width, generator=generator).to(dtype).to(device)
    expected_residual = residual + delta

    with poisoned_memory():
        got = gpu.add_rms_norm(residual, delta, weight, 1e-6)

    assert torch.equal(residual, expected_residual)
    assert_rounded(got, reference.rms_norm(residual.double(), weight.double(), 1e-6))


def test_leading_axes_are_kept_and_too_wide_rows_refused(device: torch.device) -> None:
    x = torch.randn(2, 3, 40, device=device)
    weight = torch.ones(40, device=device)
    expected = reference.rms_norm(x, weight, 1e-6)
    torch.testing.assert_close(gpu.rms_norm(x, weight, 1e-6), expected)
    with pytest.raises(ValueError, match="16385"):
        gpu.rms_norm(torch.ones(1, 16385, device=device), torch.ones(16385, device=device), 1e-6)
