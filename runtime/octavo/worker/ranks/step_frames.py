"""Step frames: one step of the model as one packed buffer, as the first rank sends it to the others.

Integers, nothing that could run: counts, the block copies, seven numbers of each entry, then all token ids,
then all block tables, of 32 bits each; behind them the entries' adapters, of 64 bits, where one has any. How
tokens are sampled is not in it: the first rank alone samples.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import BASE_MODEL, ScheduledSequence, ScoredRows

_INT = np.dtype("<i4")
_ADAPTER = np.dtype("<i8")
# Of an entry: its tokens, its position, its blocks, whether a token is sampled, its prompt's rows to score,
# its drafts, where the second text of a pair begins.
_NUMBERS = 7
_NO_SEGMENT = -1
# Stands for any way of sampling: who gets a frame scores rows and draws no token.
_SAMPLED = SamplingState(SamplingParams(), None, (), ())

Copies = Sequence[tuple[int, int]]


def pack_step(entries: Sequence[ScheduledSequence], copies: Copies) -> bytes:
    """`entries` know their tokens: none is `PENDING_TOKEN`."""
    numbers = [len(entries), len(copies), *itertools.chain.from_iterable(copies)]
    for entry in entries:
        numbers += (
            len(entry.token_ids),
            entry.start,
            len(entry.block_ids),
            entry.sampling is not None,
            0 if entry.scored is None else len(entry.scored.targets),
            entry.num_drafts,
            _second_segment(entry),
        )
    for entry in entries:
        numbers += entry.token_ids
    for entry in entries:
        numbers += entry.block_ids
    frame = np.array(numbers, dtype=_INT).tobytes()
    adapters = [entry.adapter_id for entry in entries]
    return frame + np.array(adapters, dtype=_ADAPTER).tobytes() if any(adapters) else frame


def unpack_step(frame: bytes) -> tuple[list[ScheduledSequence], list[tuple[int, int]]]:
    """The entries, numbered anew and without what is known of their scores, and the block copies."""
    numbers = np.frombuffer(frame, dtype=_INT).tolist()
    first = 0

    def take(count: int) -> list[int]:
        nonlocal first
        first += count
        found: list[int] = numbers[first - count : first]
        return found

    num_entries, num_copies = take(2)
    copies = [(source, target) for source, target in (take(2) for _ in range(num_copies))]
    heads = [take(_NUMBERS) for _ in range(num_entries)]
    tokens = [take(head[0]) for head in heads]
    blocks = [take(head[2]) for head in heads]
    adapters = np.frombuffer(frame[first * _INT.itemsize :], dtype=_ADAPTER).tolist()
    entries = [
        ScheduledSequence(
            index,
            token_ids,
            start,
            block_ids,
            _sampled(second_segment) if is_sampled else None,
            ScoredRows([0] * num_scored, 0) if num_scored else None,
            num_drafts,
            adapters[index] if adapters else BASE_MODEL,
        )
        for index, (token_ids, block_ids, head) in enumerate(
            zip(tokens, blocks, heads, strict=True)
        )
        for _, start, _, is_sampled, num_scored, num_drafts, second_segment in (head,)
    ]
    return entries, copies


def _second_segment(entry: ScheduledSequence) -> int:
    found = None if entry.sampling is None else entry.sampling.second_segment
    return _NO_SEGMENT if found is None else found


def _sampled(second_segment: int) -> SamplingState:
    if second_segment == _NO_SEGMENT:
        return _SAMPLED
    return dataclasses.replace(_SAMPLED, second_segment=second_segment)
