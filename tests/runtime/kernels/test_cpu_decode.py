from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.attention_plan import SequenceSpan
from octavo.kernels.decode_rows import DecodeTables, count_decodes, make_decode_rows
from octavo.kernels.reference.attention.paged_decode import paged_decode as reference_decode
from octavo.kernels.reference.attention.rope_and_cache import rope_and_cache as reference_rope
from octavo.layers.rotary import RopeConfig, RotaryTable
from tests.support.kernels.paged_batches import (
    TOLERANCE,
    VALUES_OF_HEADS,
    paged_batch,
    relative_error,
    values_of_heads,
)
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)
from octavo.kernels.cpu.attention import paged_decode as kernel
from octavo.kernels.cpu.attention.paged_decode import paged_decode, supports
from octavo.kernels.cpu.attention.rope_and_cache import rope_and_cache
from octavo.kernels.cpu.compiling import vector as v
from tests.support.kernels.emulated_pairs import emulated_pairs


@dataclass(frozen=True)
class Case:
    context_lens: list[int]
    heads: int
    kv_heads: int
    head_dim: int
    page: int
    dtype: torch.dtype
    window: int | None
    softcap: float | None
    has_norm: bool
    threads: int
    of_heads: str | None


@st.composite
def cases(draw: st.DrawFn, dtypes: list[torch.dtype]) -> Case:
    kv_heads, group = draw(st.sampled_from([(1, 1), (2, 2), (1, 7), (2, 3), (4, 2)]))
    return Case(
        sorted(draw(st.lists(st.integers(2, 150), min_size=1, max_size=4)), reverse=True),
        kv_heads * group,
        kv_heads,
        draw(st.sampled_from([32, 64, 96, 128])),
        draw(st.sampled_from([8, 16, 32])),
        draw(st.sampled_from(dtypes)),
        draw(st.none() | st.integers(1, 80)),
        draw(st.none() | st.sampled_from([1.0, 30.0])),
        draw(st.booleans()),
        draw(st.integers(1, 3)),
        draw(st.sampled_from(VALUES_OF_HEADS)),
    )


@pytest.fixture
def threads() -> Iterator[None]:
    """As many as before, afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pairs() -> Iterator[None]:
    """bfloat16 takes the way of CPUs with AVX512-BF16, with its instruction emulated."""
    with emulated_pairs(), pytest.MonkeyPatch.context() as patch:
        rows = kernel.make_rows(are_pairs=True)

        def run(address: int) -> None:
            job = v.int64_at(address)
            rows((v.bfloat16_at(job[1]), v.bfloat16_at(job[2]), v.bfloat16_at(job[3])), job)

        compiled = numba.cfunc("void(int64)", error_model="numpy", boundscheck=False)(run)
        patch.setitem(kernel.KERNELS, torch.bfloat16, compiled)
        yield


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cases([torch.float32, torch.bfloat16]))
@pytest.mark.usefixtures("threads")
def test_decodes_equal_rotation_and_dense_attention(case: Case) -> None:
    check(case)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=cases([torch.bfloat16]))
@pytest.mark.usefixtures("threads")
def test_pairs_of_bfloat16_equal_dense_attention(pairs: None, case: Case) -> None:
    check(case)


def check(case: Case) -> None:
    """The oracle rotates, stores, then attends in double precision; slots that must not be read are NaN."""
    torch.set_num_threads(case.threads)
    rows, total = len(case.context_lens), case.heads + 2 * case.kv_heads
    batch = paged_batch(
        case.context_lens,
        [1] * rows,
        heads=case.heads,
        kv_heads=case.kv_heads,
        head_dim=case.head_dim,
        page=case.page,
        dtype=case.dtype,
        window=case.window,
    )
    generator = torch.Generator().manual_seed(1)
    heads = torch.randn(rows, total, case.head_dim, generator=generator).to(case.dtype)
    norm = torch.rand(case.heads + case.kv_heads, case.head_dim, generator=generator) + 0.5
    norm_weight = norm if case.has_norm else None
    table = RotaryTable(
        RopeConfig(), case.head_dim, 160, dtype=case.dtype, device=torch.device("cpu")
    ).table
    options = AttentionOptions(
        scale=case.head_dim**-0.5,
        sliding_window=case.window,
        softcap=case.softcap,
        **values_of_heads(case.of_heads, case.heads),
    )
    positions = torch.tensor(case.context_lens) - 1
    slots = torch.tensor(
        [
            int(block_table[position // case.page]) * case.page + position % case.page
            for block_table, position in zip(batch.block_tables, positions.tolist(), strict=True)
        ]
    )
    spans = [
        SequenceSpan(1, length, block_table.tolist())
        for length, block_table in zip(case.context_lens, batch.block_tables, strict=True)
    ]
    cache, rotated = batch.cache.clone(), heads.clone()
    rope_and_cache(
        rotated,
        cache,
        table,
        positions,
        slots,
        num_query_heads=case.heads,
        num_kv_heads=case.kv_heads,
        head_norm_weight=norm_weight,
    )
    decodes = make_decode_rows(
        spans, case.page, DecodeTables(len(spans), 1 + max(span.context_length for span in spans))
    )
    out = torch.full((rows, case.heads * case.head_dim), torch.nan, dtype=case.dtype)
    paged_decode(rotated, cache, decodes, options, out)

    expected_cache = batch.cache.float()
    expected_heads = heads.float()
    reference_rope(
        expected_heads,
        expected_cache,
        table.float(),
        positions,
        slots,
        num_query_heads=case.heads,
        num_kv_heads=case.kv_heads,
        head_norm_weight=norm_weight,
    )
    expected = torch.empty(rows, case.heads, case.head_dim, dtype=torch.float64)
    reference_decode(
        rotated[:, : case.heads],
        cache,
        batch.block_tables,
        batch.context_lens,
        expected,
        None,
        options,
    )
    tolerance = TOLERANCE[case.dtype]
    torch.testing.assert_close(
        cache.float(), expected_cache, rtol=tolerance, atol=tolerance, equal_nan=True
    )
    torch.testing.assert_close(rotated.float(), expected_heads, rtol=tolerance, atol=tolerance)
    got = out.view(rows, case.heads, case.head_dim)
    assert relative_error(got, expected) < tolerance


def test_rows_that_follow_a_context_are_counted_until_the_first_other() -> None:
    decode, fresh, chunk = (
        SequenceSpan(1, 5, [0]),
        SequenceSpan(1, 1, [1]),
        SequenceSpan(4, 9, [2]),
    )
    assert count_decodes([decode, decode, fresh]) == 2
    assert count_decodes([decode, chunk, decode]) == 1
    assert count_decodes([fresh]) == 0
    assert count_decodes([]) == 0


def test_what_the_kernel_does_not_take_is_said() -> None:
    assert supports(torch.float32, torch.float32, 64)
    assert not supports(torch.float16, torch.float16, 64)
    assert not supports(torch.bfloat16, torch.float8_e4m3fn, 64)
    assert not supports(torch.float32, torch.float32, 80)
