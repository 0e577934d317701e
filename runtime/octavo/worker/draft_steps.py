"""Steps of what guesses for a model: rows of the model's sequences in a cache of its own, so many at once as
a step of it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from octavo.sampling.state import SamplingState
from octavo.worker.batch import ScheduledSequence

T = TypeVar("T")


def row_of(
    entry: ScheduledSequence,
    token_ids: Sequence[int],
    start: int,
    sampling: SamplingState | None = None,
) -> ScheduledSequence:
    """Tokens of the entry's sequence from position `start` on; without an adapter, which is the model's."""
    return ScheduledSequence(entry.sequence_id, token_ids, start, entry.block_ids, sampling)


def in_steps(rows: Sequence[T], num_tokens: Callable[[T], int], most: int) -> Iterator[Sequence[T]]:
    """Neighbours of `most` tokens together; one alone may have more."""
    first, count = 0, 0
    for index, row in enumerate(rows):
        size = num_tokens(row)
        if index > first and count + size > most:
            yield rows[first:index]
            first, count = index, 0
        count += size
    if first < len(rows):
        yield rows[first:]
