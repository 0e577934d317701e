"""A step laid out by the kernel is the one that the reference lays out."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.kernels.gpu import step_inputs as gpu
from octavo.kernels.reference import step_inputs as reference
from octavo.kernels.step_state import SequenceState, StepBuffers, StepLayout, chunks_at

NUM_ROWS, MAX_BLOCKS, MAX_SEQS, MAX_TOKENS = 12, 68, 9, 700


@dataclass(frozen=True)
class Case:
    block_size: int
    decodes: list[int]  # starts
    chunks: list[tuple[int, int]]  # count, start
    padding: int
    num_updates: int
    seed: int


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


def packed_step(case: Case, device: torch.device) -> tuple[torch.Tensor, StepLayout]:
    numbers = np.random.default_rng(case.seed)
    num_seqs = len(case.decodes) + len(case.chunks)
    counts = [1] * len(case.decodes) + [count for count, _ in case.chunks]
    starts = case.decodes + [start for _, start in case.chunks]
    tokens = numbers.integers(-1, 1000, sum(counts))
    places = numbers.permutation(NUM_ROWS * MAX_BLOCKS)[: case.num_updates]
    updates = [places // MAX_BLOCKS, places % MAX_BLOCKS, numbers.integers(0, 9999, len(places))]
    sections = [
        numbers.permutation(NUM_ROWS)[:num_seqs],
        np.array(starts),
        np.concatenate([[0], np.cumsum(counts)]),
        tokens,
        np.concatenate(updates),
    ]
    offsets = np.cumsum([0, *(len(section) for section in sections)]).tolist()
    packed = np.concatenate(sections).astype(np.int32)
    padded = num_seqs if case.chunks else num_seqs + case.padding
    layout = StepLayout(num_seqs, len(case.decodes), padded, len(places), *offsets[:5])
    return torch.from_numpy(packed).to(device), layout


def blank(device: torch.device) -> tuple[SequenceState, StepBuffers]:
    """Last tokens and tables are known; the buffers hold what no step writes."""
    state = SequenceState.make(NUM_ROWS, MAX_BLOCKS, device)
    state.last_tokens.copy_(torch.arange(NUM_ROWS) + 5000)
    state.block_tables.copy_(torch.arange(NUM_ROWS * MAX_BLOCKS).view(NUM_ROWS, -1) + 100)
    buffers = StepBuffers.make(
        max_tokens=MAX_TOKENS, max_seqs=MAX_SEQS, max_blocks=MAX_BLOCKS, device=device
    )
    for field in fields(buffers):
        getattr(buffers, field.name).fill_(-77)
    return state, buffers


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
