from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.kernels.attention_options import AttentionOptions
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
from tests.support.kernels.attention_launches import exact_prefill as expected_of
from tests.support.kernels.attention_launches import prefill


@st.composite
def prefill_batches(draw: st.DrawFn) -> tuple[PagedBatch, AttentionOptions]:
    kv_heads, group = draw(st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 4), (1, 8), (1, 20)]))
    head_dim = draw(st.sampled_from([16, 64, 80, 128]))
    page = draw(st.sampled_from([8, 16, 64]))
    edge = st.sampled_from([0, 1, 15, 16, 17, 63, 64, 65])
    rows = draw(st.lists(edge | st.integers(1, 90), min_size=1, max_size=3))
    rows[draw(st.integers(0, len(rows) - 1))] += 1  # a batch has a row
    before = [draw(st.just(0) | st.integers(0, 200)) for _ in rows]
    window = draw(st.none() | st.integers(1, 150))
    options = AttentionOptions(
        scale=head_dim**-0.5,
        sliding_window=window,
        softcap=draw(st.none() | st.just(2.0)),
        **values_of_heads(draw(st.sampled_from(VALUES_OF_HEADS)), kv_heads * group),
    )
    batch = paged_batch(
        [n + m for n, m in zip(rows, before, strict=True)],
        rows,
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=head_dim,
        page=page,
        dtype=draw(st.sampled_from(FLOATS)),
        window=window,
        padding_rows=draw(st.sampled_from([0, 0, 5])),
        seed=draw(st.integers(0, 99)),
    )
    return batch, options


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(prefill_batches())
def test_equals_dense_attention(
    device: torch.device, case: tuple[PagedBatch, AttentionOptions]
) -> None:
    batch, options = case
    rows = int(batch.query_start[-1])

    actual = prefill(batch, options, device)

    expected = expected_of(batch, options)
    assert relative_error(actual[:rows], expected[:rows]) < TOLERANCE[batch.query.dtype]
    assert actual[rows:].isnan().all(), "padding rows were written"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_long_chunks_after_a_long_context(device: torch.device, dtype: torch.dtype) -> None:
    """Several runs a sequence, with tiles that no mask touches between window and diagonal."""
    batch = paged_batch(
        [700, 260],
        [200, 260],
        heads=2,
        kv_heads=1,
        head_dim=128,
        page=16,
        dtype=dtype,
        window=400,
    )
    options = AttentionOptions(scale=0.088, sliding_window=400)

    out = prefill(batch, options, device)

    assert relative_error(out, expected_of(batch, options)) < TOLERANCE[dtype]


def test_decodes_in_a_mixed_batch_are_chunks_of_one_row(device: torch.device) -> None:
    batch = paged_batch(
        [90, 1, 33], [1, 1, 33], heads=4, kv_heads=2, head_dim=64, page=16, dtype=torch.float16
    )
    options = AttentionOptions(scale=0.125)

    out = prefill(batch, options, device)

    assert relative_error(out, expected_of(batch, options)) < TOLERANCE[torch.float16]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fp8_keys_and_values_are_read_as_what_they_stand_for(
    device: torch.device, dtype: torch.dtype
) -> None:
    batch = paged_batch(
        [100],
        [70],
        heads=4,
        kv_heads=2,
        head_dim=64,
        page=16,
        dtype=dtype,
        cache_dtype=torch.float8_e4m3fn,
    )
    options = AttentionOptions(scale=0.125)

    out = prefill(batch, options, device)

    assert relative_error(out, expected_of(batch, options)) < TOLERANCE[dtype]


@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_float32_queries_read_a_narrower_cache(device: torch.device, head_dim: int) -> None:
    batch = paged_batch(
        [70, 9],
        [30, 9],
        heads=4,
        kv_heads=2,
        head_dim=head_dim,
        page=16,
        dtype=torch.float32,
        cache_dtype=torch.bfloat16,
    )
    options = AttentionOptions(scale=0.1)

    out = prefill(batch, options, device)

    assert relative_error(out, expected_of(batch, options)) < TOLERANCE[torch.float32]
