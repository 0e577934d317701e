from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.attention_plan import SequenceSpan, plan_attention
from octavo.kernels.paged_attention import paged_attention
from tests.support.kernels.paged_batches import (
    TOLERANCE,
    VALUES_OF_HEADS,
    PagedBatch,
    paged_batch,
    relative_error,
    values_of_heads,
)
from tests.support.kernels.rounding import FLOATS
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.attention.decode_schedule import make_decode_workspace, schedule_decode
from tests.support.kernels.attention_launches import decode
from tests.support.kernels.attention_launches import exact_decode as expected_of


@st.composite
def decode_batches(draw: st.DrawFn) -> tuple[PagedBatch, AttentionOptions, int]:
    kv_heads, group = draw(st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 4), (1, 8), (1, 18)]))
    head_dim = draw(st.sampled_from([16, 64, 80, 96, 128]))
    page = draw(st.sampled_from([8, 16, 32]))
    edge = st.sampled_from([0, 1, page - 1, page, page + 1, 127, 128, 129])
    lengths = draw(st.lists(edge | st.integers(0, 400), min_size=1, max_size=4))
    window = draw(st.none() | st.integers(1, 200))
    options = AttentionOptions(
        scale=head_dim**-0.5,
        sliding_window=window,
        softcap=draw(st.none() | st.just(2.0)),
        **values_of_heads(draw(st.sampled_from(VALUES_OF_HEADS)), kv_heads * group),
    )
    batch = paged_batch(
        lengths,
        [1] * len(lengths),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=head_dim,
        page=page,
        dtype=draw(st.sampled_from(FLOATS)),
        window=window,
        seed=draw(st.integers(0, 99)),
    )
    return batch, options, draw(st.integers(1, 6))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(decode_batches())
def test_equals_dense_attention(
    device: torch.device, case: tuple[PagedBatch, AttentionOptions, int]
) -> None:
    batch, options, processors = case
    actual = decode(batch, options, device, processors)

    expected = expected_of(batch, options)
    assert relative_error(actual, expected) < TOLERANCE[batch.query.dtype]


def test_padding_rows_are_zero_and_read_nothing(device: torch.device) -> None:
    batch = paged_batch(
        [0, 200, 0], [1] * 3, heads=4, kv_heads=2, head_dim=64, page=16, dtype=torch.float16
    )

    out = decode(batch, AttentionOptions(scale=0.1), device)

    assert (out[[0, 2]] == 0).all()
    assert out[1].isfinite().all()


def test_pieces_are_merged_in_every_launch(device: torch.device) -> None:
    """The count of pieces that arrived must be back at zero after a launch."""
    batch = paged_batch(
        [700, 3], [1, 1], heads=4, kv_heads=1, head_dim=64, page=16, dtype=torch.float32
    )
    options = AttentionOptions(scale=0.125)

    out = decode(batch, options, device, processors=5, launches=3)

    assert relative_error(out, expected_of(batch, options)) < 1e-5


def test_the_merge_does_not_depend_on_which_piece_comes_last(device: torch.device) -> None:
    """Pieces are summed in their own order; on a GPU, outputs that differ in a bit are a race."""
    batch = paged_batch(
        [700, 300], [1, 1], heads=4, kv_heads=2, head_dim=64, page=16, dtype=torch.float16
    )
    launches = 3 if device.type == "cpu" else 300

    outputs = [
        decode(batch, AttentionOptions(scale=0.125), device, processors=5) for _ in range(launches)
    ]

    assert all(torch.equal(out, outputs[0]) for out in outputs)


def test_a_large_batch_is_scheduled_in_several_rounds(device: torch.device) -> None:
    """More sequences than the schedule reads at once."""
    lengths = [i % 20 // 19 for i in range(257)]
    batch = paged_batch(
        lengths, [1] * 257, heads=1, kv_heads=1, head_dim=16, page=8, dtype=torch.float32
    )
    options = AttentionOptions(scale=0.25)

    out = decode(batch, options, device, processors=2)

    assert relative_error(out, expected_of(batch, options)) < 1e-5


def test_work_is_cut_evenly_and_covers_every_visible_key_once(device: torch.device) -> None:
    lengths = [5000, 1, 0, 900, 130]
    window = 3000
    workspace = make_decode_workspace(
        8,
        8,
        8,
        128,
        dtype=torch.bfloat16,
        cache_dtype=torch.bfloat16,
        device=device,
        num_multiprocessors=40,
    )

    schedule_decode(torch.tensor(lengths, dtype=torch.int32, device=device), workspace, window)

    items = workspace.items[: len(lengths) + workspace.target_items].cpu()
    used = items[items[:, 0] >= 0]
    assert (items[len(used) :, 0] == -1).all()
    sizes = used[:, 2] - used[:, 1]
    assert int(sizes.max()) <= -(-4200 // workspace.target_items) + workspace.config.tile
    for row, length in enumerate(lengths):
        own = used[used[:, 0] == row]
        first = max(length - window, 0) // workspace.config.tile * workspace.config.tile
        assert own[0, 1] == first
        assert own[-1, 2] == length
        assert own[1:, 1].tolist() == own[:-1, 2].tolist()
        assert (own[:, 4] == len(own)).all()
        assert (used[own[0, 3] : own[0, 3] + len(own)] == own).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fp8_keys_and_values_are_read_as_what_they_stand_for(
    device: torch.device, dtype: torch.dtype
) -> None:
    batch = paged_batch(
        [300, 17],
        [1, 1],
        heads=4,
        kv_heads=2,
        head_dim=64,
        page=16,
        dtype=dtype,
        cache_dtype=torch.float8_e4m3fn,
    )
    options = AttentionOptions(scale=0.125)

    out = decode(batch, options, device)

    assert relative_error(out, expected_of(batch, options)) < TOLERANCE[dtype]


@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_float32_queries_read_a_narrower_cache_through_a_window(
    device: torch.device, head_dim: int
) -> None:
    """Their tiles are not those of the cache's dtype: schedule and kernel must cut alike."""
    batch = paged_batch(
        [300, 17],
        [1, 1],
        heads=4,
        kv_heads=2,
        head_dim=head_dim,
        page=16,
        dtype=torch.float32,
        cache_dtype=torch.bfloat16,
        window=100,
    )
    options = AttentionOptions(scale=0.1, sliding_window=100)

    out = decode(batch, options, device)

    assert relative_error(out, expected_of(batch, options)) < TOLERANCE[torch.float32]


def test_strided_queries_are_read_in_place(device: torch.device) -> None:
    """Queries are a slice of the fused product of queries, keys and values."""
    batch = paged_batch(
        [40, 41], [1, 1], heads=4, kv_heads=2, head_dim=32, page=16, dtype=torch.float32
    )
    fused = torch.full((2, 8, 32), torch.nan)
    fused[:, :4] = batch.query
    options = AttentionOptions(scale=0.2)
    strided = PagedBatch(
        fused[:, :4],
        batch.cache,
        batch.block_tables,
        batch.context_lens,
        batch.query_start,
        batch.out,
    )

    out = decode(strided, options, device)

    assert relative_error(out, expected_of(batch, options)) < 1e-5


def test_the_plain_torch_form_agrees() -> None:
    lengths = [300, 170, 33, 16, 2]
    batch = paged_batch(
        lengths, [1] * 5, heads=6, kv_heads=2, head_dim=64, page=16, dtype=torch.float32
    )
    # The plan form gathers whole blocks and masks, so that slots past a context must be finite.
    cache = batch.cache.nan_to_num(0.0)
    spans = [
        SequenceSpan(1, length, batch.block_tables[row, : -(-length // 16)].tolist())
        for row, length in enumerate(lengths)
    ]
    plan = plan_attention(
        spans,
        torch.zeros(5, dtype=torch.int64),
        block_size=16,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    workspace = torch.empty(plan.workspace_blocks, *cache.shape[1:])

    out = paged_attention(
        batch.query,
        torch.empty(5, 2, 2, 64),
        cache,
        plan,
        options=AttentionOptions(scale=0.125),
        workspace=workspace,
    )

    expected = expected_of(batch, AttentionOptions(scale=0.125))
    assert relative_error(out.view(5, 6, 64), expected) < 1e-5


def test_heads_that_begin_where_no_wide_load_can_are_refused(device: torch.device) -> None:
    batch = paged_batch([40], [1], heads=4, kv_heads=2, head_dim=24, page=16, dtype=torch.float16)
    odd = PagedBatch(
        torch.empty(1, 4, 25, dtype=torch.float16)[:, :, :24],
        batch.cache,
        batch.block_tables,
        batch.context_lens,
        batch.query_start,
        batch.out,
    )
    with pytest.raises(ValueError, match=r"query has strides \(100, 25, 1\)"):
        decode(odd, AttentionOptions(scale=0.2), device)
