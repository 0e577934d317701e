from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels import reference
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import FLOATS, assert_rounded, in_range
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import gated_activation as gpu


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["silu_and_mul", "gelu_and_mul"]),
    st.sampled_from(FLOATS),
    st.sampled_from([6, 1e15]),
    st.integers(0, 7),
    st.integers(1, 300) | st.sampled_from([1024, 1500]),
)
def test_every_column_is_gated(
    device: torch.device, name: str, dtype: torch.dtype, size: float, rows: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(rows * 31 + width)
    gate_up = torch.randn(rows, 2 * width, generator=generator) * in_range(size, dtype)
    gate_up = gate_up.to(dtype).to(device)

    with poisoned_memory():
        got = getattr(gpu, name)(gate_up)

    assert got.dtype == dtype
    # The activation is rounded before it is multiplied, as where the two are apart.
    assert_rounded(got, getattr(reference, name)(gate_up.double()), roundings=2)
