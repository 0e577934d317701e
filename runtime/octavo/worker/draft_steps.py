"""Steps of what guesses for a model: rows of the model's sequences in a cache of its own, so many at once as
a step of it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

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


def readable(rows: Sequence[ScheduledSequence], num_tokens: int) -> Sequence[ScheduledSequence]:
    """The rows, with the first token in the place of each that is none of the first `num_tokens`: of tokens
    that a draft model has no embedding of it knows nothing, and guesses as well as it can."""
    if all(max(row.token_ids) < num_tokens for row in rows):
        return rows
    return [
        msgspec.structs.replace(
            row, token_ids=[token if token < num_tokens else 0 for token in row.token_ids]
        )
        for row in rows
    ]


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
