"""A step laid out by the kernel is the one that the reference lays out."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.kernels.gpu import step_inputs as gpu
from octavo.kernels.reference import step_inputs as reference
from octavo.kernels.step_state import StepLayout, chunks_at
from tests.support.kernels.packed_steps import (
    MAX_BLOCKS,
    Case,
    blank,
    packed_step,
)

cases = st.builds(
    Case,
    block_size=st.sampled_from([8, 16]),
    decodes=st.lists(st.integers(0, 500), max_size=4),
    chunks=st.lists(
        st.tuples(st.sampled_from([2, 7, 120, 256, 300]), st.integers(0, 200)), max_size=2
    ),
    padding=st.integers(0, 3),
    num_updates=st.sampled_from([0, 1, 5, 300]),
    seed=st.integers(0, 2**20),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=cases)
def test_the_kernel_lays_out_what_the_reference_does(case: Case, device: torch.device) -> None:
    packed, layout = packed_step(case, device)
    results = []
    for step_inputs in (reference.step_inputs, gpu.step_inputs):
        state, buffers = blank(device)
        step_inputs(packed, layout, state, buffers, case.block_size)
        results.append((state, buffers))
    (state, buffers), (own_state, own_buffers) = results
    assert torch.equal(own_state.block_tables, state.block_tables)
    for field in fields(buffers):
        if field.name == "query_start" and not case.chunks:
            continue  # without meaning
        expected = getattr(buffers, field.name)
        assert torch.equal(getattr(own_buffers, field.name), expected), field.name


def test_a_step_of_decodes_and_chunks(device: torch.device) -> None:
    state, buffers = blank(device)
    # Sequences: row 3 decodes at position 9, row 1 runs three tokens from position 7.
    packed = torch.tensor(
        [3, 1, 9, 7, 0, 1, 4, -1, 40, 41, 42, 1, 1, 555], dtype=torch.int32, device=device
    )
    layout = StepLayout(2, 1, 2, 1, rows=0, starts=2, query_start=4, token_ids=7, updates=11)
    gpu.step_inputs(packed, layout, state, buffers, 8)
    row3, row1 = 100 + 3 * MAX_BLOCKS, 100 + MAX_BLOCKS
    assert buffers.token_ids[:5].tolist() == [5003, 40, 41, 42, -77]
    assert buffers.positions[:4].tolist() == [9, 7, 8, 9]
    slots = [(row3 + 1) * 8 + 1, row1 * 8 + 7, 555 * 8, 555 * 8 + 1]
    assert buffers.slots[:4].tolist() == slots
    chunk = chunks_at(1)
    assert buffers.context_lens[[0, chunk]].tolist() == [10, 10]
    assert buffers.block_tables[chunk, :3].tolist() == [row1, 555, -77]
    assert buffers.query_start[chunk : chunk + 2].tolist() == [0, 3]
    assert buffers.num_live.tolist() == [4]


@pytest.mark.parametrize("size", [1, 4])
def test_a_step_of_padding_alone_reads_and_writes_nothing(device: torch.device, size: int) -> None:
    state, buffers = blank(device)
    packed = torch.zeros(4, dtype=torch.int32, device=device)
    layout = StepLayout(0, 0, size, 0, 0, 0, 0, 0, 0)
    gpu.step_inputs(packed, layout, state, buffers, 16)
    assert buffers.context_lens[: size + 1].tolist() == [0] * size + [-77]
    assert buffers.slots[: size + 1].tolist() == [-1] * size + [-77]
    assert buffers.token_ids[: size + 1].tolist() == [0] * size + [-77]
    assert buffers.num_live.tolist() == [0]
