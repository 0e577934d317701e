"""Passes over the rows of a prompt: shared by threads, each row is what it is alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.kernels.poison import poisoned_memory
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)
from octavo.kernels import cpu
from octavo.kernels.cpu.attention.rope_and_cache import rope_and_cache
from octavo.kernels.cpu.compiling.team import is_for_team

DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
ROWS = st.integers(130, 700)
WIDTH = 256


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=8, deadline=None)
@example(torch.float32, 131)
@given(DTYPES, ROWS)
def test_a_row_is_normed_and_gated_as_it_is_alone(dtype: torch.dtype, rows: int) -> None:
    assert is_for_team(rows * WIDTH)
    residual, delta = numbers(2, rows, WIDTH, seed=rows).to(dtype)
    weight = numbers(WIDTH, seed=1).to(dtype)
    gate_up = numbers(rows, 2 * WIDTH, seed=rows).to(dtype)
    with poisoned_memory():
        normalised = cpu.rms_norm(residual, weight, 1e-6)
        gated, others = cpu.silu_and_mul(gate_up), cpu.gelu_and_mul(gate_up)
        total = residual.clone()
        summed = cpu.add_rms_norm(total, delta, weight, 1e-6)
    for row in range(rows):
        one = slice(row, row + 1)
        alone = residual[one].clone()
        assert torch.equal(normalised[one], cpu.rms_norm(alone, weight, 1e-6))
        assert torch.equal(gated[one], cpu.silu_and_mul(gate_up[one]))
        assert torch.equal(others[one], cpu.gelu_and_mul(gate_up[one]))
        assert torch.equal(summed[one], cpu.add_rms_norm(alone, delta[one], weight, 1e-6))
        assert torch.equal(total[one], alone)


@settings(max_examples=8, deadline=None)
@example(torch.float32, 131)
@given(DTYPES, ROWS)
def test_rotated_heads_and_the_cache(dtype: torch.dtype, rows: int) -> None:
    query_heads, kv_heads, d = 4, 2, 32
    heads = numbers(rows, query_heads + 2 * kv_heads, d, seed=rows).to(dtype)
    table = numbers(50, 2, 1, d, seed=2).to(dtype)
    norm = numbers(query_heads + kv_heads, d, seed=3)
    positions = torch.arange(rows) % 50
    slots = torch.randperm(rows + 16, generator=torch.Generator().manual_seed(rows))[:rows]
    slots[rows // 2] = -1
    blocks = -(-(rows + 16) // 16)
    cache = torch.zeros(blocks, 16, 2, kv_heads, d, dtype=dtype)
    expected, alone = torch.zeros_like(cache), heads.clone()

    def run(some: slice, heads: torch.Tensor, cache: torch.Tensor) -> None:
        rope_and_cache(
            heads[some],
            cache,
            table,
            positions[some],
            slots[some],
            num_query_heads=query_heads,
            num_kv_heads=kv_heads,
            head_norm_weight=norm,
        )

    assert is_for_team(heads.numel())
    run(slice(rows), heads, cache)
    for row in range(rows):
        run(slice(row, row + 1), alone, expected)
    assert torch.equal(heads, alone)
    assert torch.equal(cache, expected)
