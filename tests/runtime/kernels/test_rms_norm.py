from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels import reference

from .poison import poisoned_memory

pytest.importorskip("triton")
from octavo.kernels.gpu import rms_norm as gpu

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def dtypes(device: torch.device) -> st.SearchStrategy[torch.dtype]:
    interpreted = [torch.float32, torch.float16]
    return st.sampled_from([*interpreted, torch.bfloat16] if device.type == "cuda" else interpreted)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(0, 19), st.integers(1, 700) | st.sampled_from([1024, 4097, 16384]))
def test_rows_of_any_width_are_normalised(
    device: torch.device, data: st.DataObject, rows: int, width: int
) -> None:
    dtype = data.draw(dtypes(device))
    generator = torch.Generator().manual_seed(rows * 31 + width)
    wide = torch.randn(rows, width + 3, generator=generator) * 4
    x = wide.to(dtype).to(device)[:, :width]
    weight = torch.randn(width, generator=generator).to(dtype).to(device)

    with poisoned_memory():
        got = gpu.rms_norm(x, weight, 1e-5)

    expected = reference.rms_norm(x, weight, 1e-5)
    torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@settings(max_examples=15, deadline=None)
@given(st.data(), st.integers(0, 9), st.integers(1, 600))
def test_the_residual_is_rounded_before_it_is_normalised(
    device: torch.device, data: st.DataObject, rows: int, width: int
) -> None:
    dtype = data.draw(dtypes(device))
    generator = torch.Generator().manual_seed(rows * 31 + width)
    residual, delta = torch.randn(2, rows, width, generator=generator).to(dtype).to(device)
    weight = torch.randn(width, generator=generator).to(dtype).to(device)
    expected_residual = residual.clone()
    expected = reference.add_rms_norm(expected_residual, delta, weight, 1e-6)

    with poisoned_memory():
        got = gpu.add_rms_norm(residual, delta, weight, 1e-6)

    assert torch.equal(residual, expected_residual)
    torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_leading_axes_are_kept_and_too_wide_rows_refused(device: torch.device) -> None:
    x = torch.randn(2, 3, 40, device=device)
    weight = torch.ones(40, device=device)
    expected = reference.rms_norm(x, weight, 1e-6)
    torch.testing.assert_close(gpu.rms_norm(x, weight, 1e-6), expected)
    with pytest.raises(ValueError, match="16385"):
        gpu.rms_norm(torch.ones(1, 16385, device=device), torch.ones(16385, device=device), 1e-6)
