"""Steps as the host packs them for the device."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from octavo.kernels.step_state import SequenceState, StepBuffers, StepLayout

NUM_ROWS, MAX_BLOCKS, MAX_SEQS, MAX_TOKENS = 12, 68, 9, 700


@dataclass(frozen=True)
class Case:
    block_size: int
    decodes: list[int]  # starts
    chunks: list[tuple[int, int]]  # count, start
    padding: int
    num_updates: int
    seed: int


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
