"""Draft rows. A token and the drafts behind it are so many decodes of one sequence.

All rows of a step are stored before any attends, so that each sees those before it, by the same kernels as
without drafts; and what is recorded for so many decodes also runs so many rows of drafts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec

from octavo.config import EngineConfig
from octavo.worker.batch import ScheduledSequence

MOST_DRAFTS = 128
"""Of one step, whatever is asked for: where steps have more rows a draft takes about as long as a token, so
that guesses pay no more, and each row takes memory for the scores of a vocabulary."""


def most_drafts(config: EngineConfig) -> int:
    """That one step can have; 0 where nobody guesses."""
    return min(most_drafts_of_one(config) * config.max_num_seqs, MOST_DRAFTS)


def most_drafts_of_one(config: EngineConfig) -> int:
    """That one sequence can have in a step."""
    wanted = config.speculative_config
    return 0 if wanted is None else wanted.num_speculative_tokens


def check_drafts(entries: Sequence[ScheduledSequence], most: int) -> None:
    """Raises `ValueError` where a step has more of them than there is room for."""
    count = sum(entry.num_drafts for entry in entries)
    if count > most:
        raise ValueError(f"The step has {count} drafts; there is room for {most}.")


def num_decode_rows(entries: Sequence[ScheduledSequence]) -> int | None:
    """Of a step of decodes alone; None where there are chunks of prompts, or rows of one to be scored."""
    count = 0
    for entry in entries:
        if len(entry.token_ids) != 1 + entry.num_drafts or entry.scored:
            return None
        count += len(entry.token_ids)
    return count


def drafts_of(entry: ScheduledSequence) -> Sequence[int]:
    return entry.token_ids[1:] if entry.num_drafts else ()


def rows_in_step(entries: Sequence[ScheduledSequence]) -> list[range]:
    """Those of each entry, as `pack_step` lays them out: first all that are single ones."""
    found = [range(0)] * len(entries)
    first = 0
    for is_single in (True, False):
        for index, entry in enumerate(entries):
            count = len(entry.token_ids)
            if (count == 1 + entry.num_drafts) is is_single:
                found[index] = range(first, first + count)
                first += count
    return found


def with_rows_of_drafts(
    entries: Sequence[ScheduledSequence], block_size: int
) -> Sequence[ScheduledSequence]:
    """The entries, those with drafts as one of a single token for each row, in order.

    The rows of drafts name the blocks of what is known alone: those behind may be others in the next step, if
    the drafts do not come true, and are sent anew then. All of them keep `num_drafts`.
    """
    if not any(entry.num_drafts for entry in entries):
        return entries
    return [row for entry in entries for row in _rows(entry, block_size)]


def _rows(entry: ScheduledSequence, block_size: int) -> list[ScheduledSequence]:
    if not entry.num_drafts:
        return [entry]
    tokens, state = entry.token_ids, entry.sampling
    drafts = tuple(tokens[1:])
    known_blocks = entry.block_ids[: entry.start // block_size + 1]
    rows = [msgspec.structs.replace(entry, token_ids=tokens[:1])]
    for place in range(1, len(tokens)):
        behind = None if state is None else dataclasses.replace(state, guesses=drafts[:place])
        rows.append(
            msgspec.structs.replace(
                entry,
                token_ids=(tokens[place],),
                start=entry.start + place,
                block_ids=known_blocks,
                sampling=behind,
            )
        )
    return rows
