"""Step frames: one step of the model as one packed buffer, as the first rank sends it to the others.

Integers of 32 bits, nothing that could run: counts, the block copies, five numbers of each entry, then all
token ids, then all block tables. How tokens are sampled is not in it: the first rank alone samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence, ScoredRows

_INT = np.dtype("<i4")
# Of an entry: its tokens, its position, its blocks, whether a token is sampled, its prompt's rows to score.
_NUMBERS = 5
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
        )
    for entry in entries:
        numbers += entry.token_ids
    for entry in entries:
        numbers += entry.block_ids
    return np.array(numbers, dtype=_INT).tobytes()


def unpack_step(frame: bytes) -> tuple[list[ScheduledSequence], list[tuple[int, int]]]:
    """The entries, numbered anew and without what is known of their scores, and the block copies."""
    numbers = iter(np.frombuffer(frame, dtype=_INT).tolist())

    def take(count: int) -> list[int]:
        return list(itertools.islice(numbers, count))

    num_entries, num_copies = take(2)
    copies = [(source, target) for source, target in (take(2) for _ in range(num_copies))]
    heads = [take(_NUMBERS) for _ in range(num_entries)]
    tokens = [take(head[0]) for head in heads]
    entries = [
        ScheduledSequence(
            index,
            token_ids,
            start,
            take(num_blocks),
            _SAMPLED if is_sampled else None,
            ScoredRows([0] * num_scored, 0) if num_scored else None,
        )
        for index, (token_ids, (_, start, num_blocks, is_sampled, num_scored)) in enumerate(
            zip(tokens, heads, strict=True)
        )
    ]
    return entries, copies
