"""Attention of prompt chunks on CPUs, against dense attention in double precision."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.attention_plan import SequenceSpan
from octavo.kernels.prefill_chunks import PrefillChunks, make_prefill_chunks
from octavo.kernels.reference.attention.paged_prefill import paged_prefill as reference_prefill
from tests.support.kernels.paged_batches import (
    TOLERANCE,
    VALUES_OF_HEADS,
    PagedBatch,
    paged_batch,
    relative_error,
    values_of_heads,
)
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)
from octavo.kernels.cpu.attention import paged_prefill as kernel
from octavo.kernels.cpu.attention.amx_form import by_registers
from octavo.kernels.cpu.attention.prefill_check import LARGEST_ERROR, error_of
from octavo.kernels.cpu.attention.prefill_form import Form, by_vectors
from octavo.kernels.cpu.attention.prefill_layout import PAIRS
from octavo.kernels.cpu.compiling import vector as v
from tests.support.kernels.emulated_pairs import emulated_pairs
from tests.support.kernels.emulated_tiles import emulated_tiles

DTYPES = [torch.float32, torch.bfloat16]


@dataclass(frozen=True)
class Case:
    batch: PagedBatch
    options: AttentionOptions
    threads: int


@st.composite
def cases(draw: st.DrawFn, dtypes: list[torch.dtype]) -> Case:
    kv_heads, group = draw(st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 4), (1, 20), (1, 150)]))
    head_dim = draw(st.sampled_from([16, 32, 48, 64, 80, 96, 128, 256]))
    edge = st.sampled_from([1, 15, 16, 17, 191, 192, 193])
    rows = draw(st.lists(edge | st.integers(1, 140), min_size=1, max_size=3))
    before = [draw(st.just(0) | edge | st.integers(0, 250)) for _ in rows]
    window = draw(st.none() | edge | st.integers(1, 150))
    batch = paged_batch(
        [n + m for n, m in zip(rows, before, strict=True)],
        rows,
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=head_dim,
        page=draw(st.sampled_from([8, 16, 64])),
        dtype=draw(st.sampled_from(dtypes)),
        window=window,
        seed=draw(st.integers(0, 99)),
    )
    softcap = draw(st.none() | st.sampled_from([2.0, 30.0]))
    scale = draw(st.sampled_from([head_dim**-0.5, 0.5 * head_dim**-0.5, 0.1]))
    of_heads = values_of_heads(draw(st.sampled_from(VALUES_OF_HEADS)), kv_heads * group)
    options = AttentionOptions(scale=scale, sliding_window=window, softcap=softcap, **of_heads)
    return Case(batch, options, draw(st.integers(1, 3)))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """As many as before, afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pairs() -> Iterator[None]:
    """bfloat16 takes the way of CPUs with AVX512-BF16, with its instruction emulated."""
    with emulated_pairs(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(kernel.KERNELS, torch.bfloat16, compiled(by_vectors(PAIRS, 8, 2)))
        yield


@pytest.fixture(scope="module")
def registers() -> Iterator[None]:
    """bfloat16 takes the way of CPUs with AMX, with its instructions emulated."""
    with emulated_tiles(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(kernel.KERNELS, torch.bfloat16, compiled(by_registers()))
        yield


def compiled(form: Form) -> Any:
    prefill = kernel.make_prefill(form)

    def run(address: int) -> None:
        job = v.int64_at(address)
        prefill(v.bfloat16_at(job[1]), v.bfloat16_at(job[2]), v.bfloat16_at(job[3]), job)

    return numba.cfunc("void(int64)", error_model="numpy", boundscheck=False)(run)


def chunks_of(batch: PagedBatch) -> PrefillChunks:
    counts = batch.query_start.diff().tolist()
    rows = zip(counts, batch.context_lens.tolist(), batch.block_tables.tolist(), strict=True)
    return make_prefill_chunks([SequenceSpan(*row) for row in rows], batch.cache.shape[1])


def prefill(batch: PagedBatch, options: AttentionOptions) -> torch.Tensor:
    """Keys and values beside the queries are NaN: they are read from the cache."""
    tokens, query_heads, head_dim = batch.query.shape
    beside = torch.full((tokens, 2 * batch.cache.shape[3], head_dim), torch.nan)
    heads = torch.cat([batch.query, beside.to(batch.query.dtype)], dim=1)
    out = torch.full((tokens, query_heads * head_dim), torch.nan, dtype=batch.query.dtype)
    kernel.paged_prefill(heads, batch.cache, chunks_of(batch), options, out)
    return out.view_as(batch.query)


def check(case: Case) -> None:
    torch.set_num_threads(case.threads)
    batch, query = case.batch, case.batch.query
    expected = torch.empty(query.shape, dtype=torch.float64)
    tables, starts = batch.block_tables, batch.query_start
    longest = int(starts.diff().max())
    reference_prefill(
        query, batch.cache, tables, batch.context_lens, starts, expected, longest, case.options
    )
    got = prefill(batch, case.options)
    assert relative_error(got, expected) < TOLERANCE[query.dtype]


@settings(max_examples=30, deadline=None)
@given(cases(DTYPES))
def test_equals_dense_attention(case: Case) -> None:
    check(case)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=cases([torch.bfloat16]))
def test_pairs_of_bfloat16_equal_dense_attention(pairs: None, case: Case) -> None:
    check(case)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=cases([torch.bfloat16]))
def test_registers_of_bfloat16_equal_dense_attention(registers: None, case: Case) -> None:
    check(case)


def test_a_row_comes_out_the_same_by_registers_however_its_prompt_is_cut(registers: None) -> None:
    check_cuts(torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_comes_out_the_same_however_its_prompt_is_cut(dtype: torch.dtype) -> None:
    check_cuts(dtype)


def check_cuts(dtype: torch.dtype) -> None:
    length, options = 333, AttentionOptions(scale=0.1)
    whole = paged_batch([length], [length], heads=6, kv_heads=2, head_dim=64, page=16, dtype=dtype)
    together = prefill(whole, options)
    for first, last in itertools.pairwise((0, 1, 38, 135, 136, 300, length)):
        part = PagedBatch(
            whole.query[first:last],
            whole.cache,
            whole.block_tables,
            torch.tensor([last]),
            torch.tensor([0, last - first]),
            whole.out[first:last],
        )
        assert torch.equal(prefill(part, options), together[first:last])


@pytest.mark.parametrize("is_right", [True, False])
def test_registers_are_used_where_a_small_prompt_comes_out_right(
    registers: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_right: bool,
) -> None:
    """The wrong kernel leaves the output as it was."""
    right = kernel.KERNELS[torch.bfloat16]
    wrong = numba.cfunc("void(int64)")(lambda address: None)
    monkeypatch.setattr(kernel, "BY_REGISTERS", right if is_right else wrong)
    monkeypatch.setattr(kernel, "may_use_matrix_units", lambda: True)
    with caplog.at_level(logging.INFO, logger=kernel.__name__):
        assert kernel.attends_by_registers.__wrapped__() is is_right
    assert [record.levelname for record in caplog.records] == ["INFO" if is_right else "ERROR"]
    assert "OCTAVO_AMX=0" in caplog.text


def test_a_process_that_may_not_use_amx_never_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BY_REGISTERS", None)
    monkeypatch.setattr(kernel, "may_use_matrix_units", lambda: False)
    assert not kernel.attends_by_registers.__wrapped__()


def test_the_check_finds_the_kernel_of_this_cpu_right() -> None:
    assert error_of(functools.partial(kernel._attend, kernel._bfloat16)) <= LARGEST_ERROR / 2


@given(
    st.lists(st.tuples(st.integers(1, 70), st.integers(0, 50)), min_size=1, max_size=5),
    st.integers(1, 40),
)
def test_pieces_are_all_rows_once_and_the_longest_first(
    chunks: list[tuple[int, int]], rows: int
) -> None:
    spans = [SequenceSpan(count, count + before, list(range(8))) for count, before in chunks]
    pieces = make_prefill_chunks(spans, 16).pieces(rows).tolist()
    found = [(chunk, row) for chunk, first, n in pieces for row in range(first, first + n)]
    assert sorted(found) == [(i, row) for i, (n, _) in enumerate(chunks) for row in range(n)]
    assert max(n for _, _, n in pieces) <= rows
    work = [n * (chunks[chunk][1] + first + n) for chunk, first, n in pieces]
    assert work == sorted(work, reverse=True)
