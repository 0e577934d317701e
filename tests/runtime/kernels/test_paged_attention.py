"""Paged attention equals dense attention, whatever the shapes, chunks and block tables."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.kernels import attention_plan
from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.attention_plan import (
    ContinuedPrefill,
    DecodeGroup,
    FreshPrefill,
    SequenceSpan,
    plan_attention,
)
from octavo.kernels.paged_attention import paged_attention, write_kv_cache
from tests.support.kernels.paged_batches import VALUES_OF_HEADS, values_of_heads

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    block_size: int
    kv_heads: int
    group: int
    head_dim: int
    spans: list[tuple[int, int]]  # (rows of this step, tokens before it)
    seed: int
    max_mask_elements: int
    window: int | None
    softcap: float | None
    of_heads: str | None


spans = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 90)), min_size=1, max_size=7)
decodes = st.lists(st.tuples(st.just(1), st.integers(1, 300)), max_size=9)
cases = st.builds(
    Case,
    block_size=st.sampled_from([8, 16, 32]),
    kv_heads=st.sampled_from([1, 2, 3]),
    group=st.sampled_from([1, 2, 5]),
    head_dim=st.sampled_from([2, 8, 20]),
    spans=st.tuples(decodes, spans).map(lambda pair: pair[0] + pair[1]),
    seed=st.integers(0, 2**20),
    max_mask_elements=st.sampled_from([2**22, 200]),
    window=st.sampled_from([None, 1, 7, 16, 50, 1000]),
    softcap=st.sampled_from([None, 0.7]),
    of_heads=st.sampled_from(VALUES_OF_HEADS),
)


def in_row_order(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    decode = sorted((p for p in pairs if p[0] == 1 and p[1] > 0), key=lambda p: -p[1])
    return decode + [p for p in pairs if p[0] > 1 or p[1] == 0]


def dense(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, options: AttentionOptions
) -> torch.Tensor:
    """The definition, one row and head at a time. `query` `[rows, heads, d]`, keys `[length, kv, d]`."""
    rows, heads, _ = query.shape
    length, kv_heads, _ = keys.shape
    out = torch.zeros_like(query)
    for row in range(rows):
        end = length - rows + row + 1
        seen = slice(max(end - (options.sliding_window or end), 0), end)
        for head in range(heads):
            kv = head // (heads // kv_heads)
            scores = keys[seen, kv] @ query[row, head] * options.scale
            if options.softcap is not None:
                scores = options.softcap * torch.tanh(scores / options.softcap)
            if options.slopes is not None:
                scores -= options.slopes[head] * torch.arange(len(scores) - 1, -1, -1)
            if options.sinks is not None:
                scores = torch.cat([scores, options.sinks[head, None]])
            weights = torch.softmax(scores, 0)[: seen.stop - seen.start]
            out[row, head] = weights @ values[seen, kv]
    return out.reshape(rows, -1)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_equals_dense_attention(case: Case) -> None:
    torch.manual_seed(case.seed)
    options = AttentionOptions(
        case.head_dim**-0.5,
        sliding_window=case.window,
        softcap=case.softcap,
        **values_of_heads(case.of_heads, case.kv_heads * case.group),
    )
    pairs = in_row_order(case.spans)
    blocks_of = [-(-(rows + before) // case.block_size) for rows, before in pairs]
    num_blocks = sum(blocks_of) + 2
    free = torch.randperm(num_blocks).tolist()
    cache = torch.full((num_blocks, case.block_size, 2, case.kv_heads, case.head_dim), torch.nan)
    flat = cache.view(-1, 2, case.kv_heads, case.head_dim)
    heads = case.kv_heads * case.group
    tables, contexts, slots = [], [], []
    for (rows, before), count in zip(pairs, blocks_of, strict=True):
        table = [free.pop() for _ in range(count)]
        kv = torch.randn(rows + before, 2, case.kv_heads, case.head_dim)
        places = torch.tensor(
            [
                table[p // case.block_size] * case.block_size + p % case.block_size
                for p in range(rows + before)
            ]
        )
        flat[places[:before]] = kv[:before]
        tail = [
            s
            for block in table
            for s in range(block * case.block_size, (block + 1) * case.block_size)
        ]
        flat[tail[rows + before :]] = torch.nan  # what a broken model left in a freed block
        tables.append(table)
        contexts.append(kv)
        slots.append(places[before:])
    kv_now = torch.cat([kv[before:] for kv, (_, before) in zip(contexts, pairs, strict=True)])
    query = torch.randn(kv_now.shape[0], heads, case.head_dim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_plan, "_MAX_MASK_ELEMENTS", case.max_mask_elements)
        patch.setattr(attention_plan, "_MIN_WINDOWED_ROWS", 5)
        plan = plan_attention(
            [
                SequenceSpan(rows, rows + before, table)
                for (rows, before), table in zip(pairs, tables, strict=True)
            ],
            torch.cat(slots),
            block_size=case.block_size,
            dtype=torch.float32,
            device=CPU,
            windows=[case.window] if case.window else [],
        )
    write_kv_cache(cache, kv_now, plan.slots)
    out = paged_attention(
        query,
        kv_now,
        cache,
        plan,
        options=options,
        workspace=torch.full((plan.workspace_blocks, *cache.shape[1:]), torch.nan),
    )
    row = 0
    for (rows, _), kv in zip(pairs, contexts, strict=True):
        expected = dense(query[row : row + rows], kv[:, 0], kv[:, 1], options)
        torch.testing.assert_close(out[row : row + rows], expected, rtol=1e-4, atol=1e-4)
        row += rows
    assert row == out.shape[0]


@pytest.mark.parametrize("left", [torch.nan, torch.inf])
@pytest.mark.parametrize("kind", [torch.float32, torch.float8_e4m3fn])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_what_others_left_in_a_block_changes_nothing(
    left: float, kind: torch.dtype, softcap: float | None
) -> None:
    """Decodes of one group, of which some end within a block and some have one block alone; a block of each
    is followed in its table by one that is not written yet."""
    options = AttentionOptions(scale=0.25, softcap=softcap)
    contexts = [100, 97, 33, 32, 16, 5, 2]
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(len(contexts), 4, 10, generator=generator)
    written = torch.randn(64, 16, 2, 2, 10, generator=generator)
    spans_ = [
        SequenceSpan(1, length, range(8 * i, 8 * i + -(-length // 16) + 1))
        for i, length in enumerate(contexts)
    ]
    slots = torch.tensor([128 * i + length - 1 for i, length in enumerate(contexts)])
    plan = plan_attention(spans_, slots, block_size=16, dtype=torch.float32, device=CPU)
    assert len(plan.work) == 1
    results = []
    for stale in (0.0, left):
        cache = written.clone()
        for i, length in enumerate(contexts):
            cache[8 * i : 8 * i + 8].flatten(0, 1)[length:] = stale
        cache = cache.to(kind)
        workspace = torch.empty((plan.workspace_blocks, *cache.shape[1:]), dtype=kind)
        out = paged_attention(query, written[:0], cache, plan, options=options, workspace=workspace)
        results.append(out)
    assert results[0].isfinite().all()
    assert torch.equal(results[1], results[0])


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("which", [0, 1])  # keys, values
def test_a_broken_prompt_leaves_those_packed_with_it_alone(
    softcap: float | None, which: int
) -> None:
    options = AttentionOptions(scale=0.25, softcap=softcap)
    pairs = [(5, 0), (9, 0), (1, 0), (7, 0)]
    spans_ = [SequenceSpan(rows, rows, [i]) for i, (rows, _) in enumerate(pairs)]
    slots = torch.cat([torch.arange(rows) + 16 * i for i, (rows, _) in enumerate(pairs)])
    plan = plan_attention(spans_, slots, block_size=16, dtype=torch.float32, device=CPU)
    assert len(plan.work) == 1
    generator = torch.Generator().manual_seed(0)
    query, kv = (torch.randn(22, n, 10, generator=generator) for n in (4, 4))
    kv = kv.view(22, 2, 2, 10)
    results = []
    for first_key in (0.0, torch.nan):
        kv[5, which] = first_key  # of the second prompt, which all its rows see
        cache, workspace = torch.zeros(4, 16, 2, 2, 10), torch.empty(0, 16, 2, 2, 10)
        results.append(
            paged_attention(query, kv, cache, plan, options=options, workspace=workspace)
        )
    expected, got = results
    assert not got[5:14].isfinite().all()
    others = [*range(5), *range(14, 22)]
    torch.testing.assert_close(got[others], expected[others], rtol=1e-5, atol=1e-5)


def plan_of(*pairs: tuple[int, int]) -> list[DecodeGroup | FreshPrefill | ContinuedPrefill]:
    spans_ = [SequenceSpan(rows, rows + before, range(100)) for rows, before in pairs]
    slots = torch.zeros(sum(rows for rows, _ in pairs), dtype=torch.int64)
    plan = plan_attention(spans_, slots, block_size=16, dtype=torch.float32, device=CPU)
    return list(plan.work)


def test_a_long_chunk_is_cut_so_that_its_mask_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_plan, "_MAX_MASK_ELEMENTS", 1000)
    work = plan_of((30, 70))
    assert [(w.first, w.last) for w in work] == [(0, 10), (10, 20), (20, 30)]
    assert [w.length for w in work if isinstance(w, ContinuedPrefill)] == [80, 90, 100]


def test_decodes_of_like_context_form_one_group() -> None:
    work = plan_of((1, 900), (1, 800), (1, 500))
    assert [(w.first, w.last) for w in work] == [(0, 3)]


def test_a_long_context_does_not_pad_short_ones() -> None:
    work = plan_of((1, 1500), (1, 90), (1, 3))
    assert [(w.first, w.last) for w in work] == [(0, 1), (1, 3)]
    assert isinstance(work[0], DecodeGroup)
    assert work[0].mask is None


def test_equal_contexts_need_no_mask() -> None:
    (work,) = plan_of((1, 50), (1, 50))
    assert isinstance(work, DecodeGroup)
    assert work.mask is None


def test_short_fresh_prompts_run_together_and_long_ones_alone() -> None:
    work = plan_of((20, 0), (30, 0), (250, 0), (5, 40), (6, 0))
    assert [(type(w), w.first, w.last) for w in work] == [
        (FreshPrefill, 0, 50),
        (FreshPrefill, 50, 300),
        (ContinuedPrefill, 300, 305),
        (FreshPrefill, 305, 311),
    ]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_formats_agree_with_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kv_heads, group, head_dim, block_size = 2, 2, 16, 16
    options = AttentionOptions(scale=0.25)
    pairs = [(1, 60), (1, 33), (9, 0), (4, 20)]
    results = []
    generator = torch.Generator().manual_seed(5)
    cache32 = torch.randn(64, block_size, 2, kv_heads, head_dim, generator=generator)
    kv32 = torch.randn(15, 2, kv_heads, head_dim, generator=generator)
    query32 = torch.randn(15, kv_heads * group, head_dim, generator=generator)
    for kind in (torch.float32, dtype):
        cache, kv, query = (t.to(dtype).to(kind) for t in (cache32, kv32, query32))
        table = [list(range(i * 8, i * 8 + 8)) for i in range(4)]
        spans_ = [SequenceSpan(r, r + b, table[i]) for i, (r, b) in enumerate(pairs)]
        slots = torch.tensor([i * 128 + b + o for i, (r, b) in enumerate(pairs) for o in range(r)])
        plan = plan_attention(spans_, slots, block_size=block_size, dtype=kind, device=CPU)
        write_kv_cache(cache, kv, plan.slots)
        workspace = torch.empty((plan.workspace_blocks, *cache.shape[1:]), dtype=kind)
        out = paged_attention(query, kv, cache, plan, options=options, workspace=workspace)
        results.append(out)
    torch.testing.assert_close(results[1].float(), results[0], rtol=2e-2, atol=2e-2)
