"""Oracle of a model whose layers all attend within a sliding window.

What it stores for a token is, as in a model of many layers, a function of all that the token sees, which
was one of all that those tokens saw. Whatever reads a block that was given away too early finds another
position's content, or content that makes every later token another one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from octavo.sampling.state import SampledToken
from octavo.worker.batch import ScheduledSequence

from .oracle import EOS, VOCAB_SIZE, PagedMemoryExecutor, verified


def content(position: int, token: int, visible: Sequence[int]) -> int:
    """Of a token's slot; `visible` are the contents of the slots that it sees before its own."""
    return hash((position, token, *visible))


def next_token(last: int, seed: int | None) -> int:
    return hash((last, seed or 0)) % VOCAB_SIZE


def run_alone_within(
    window: int,
    prompt: Sequence[int],
    max_output_tokens: int,
    seed: int | None = None,
    ignore_eos: bool = False,
) -> list[int]:
    """What a sequence must generate, whatever runs beside it."""
    tokens, contents = list(prompt), list[int]()
    for position in range(len(prompt) + max_output_tokens - 1):
        visible = contents[max(position - window + 1, 0) :]
        contents.append(content(position, tokens[position], visible))
        if position >= len(prompt) - 1:
            tokens.append(next_token(contents[-1], seed))
            if tokens[-1] == EOS and not ignore_eos:
                break
    return tokens[len(prompt) :]


class WindowedMemoryExecutor(PagedMemoryExecutor):
    """See `PagedMemoryExecutor`; a query at position p sees the keys `(p - window, p]`."""

    def __init__(self, num_blocks: int, window: int, max_model_len: int = 64) -> None:
        super().__init__(num_blocks, max_model_len=max_model_len)
        self.window = window
        self.info = dataclasses.replace(self.info, sliding_window=window)

    def execute(self, batch: Sequence[ScheduledSequence]) -> list[SampledToken]:
        self.batches.append([(entry.sequence_id, len(entry.token_ids)) for entry in batch])
        size = self.info.block_size
        readers = Counter(
            block
            for entry in batch
            for block in entry.block_ids[self._first_visible(entry.start) // size :]
        )
        sampled = []
        for entry in batch:
            following = []
            for offset, token in enumerate(entry.token_ids):
                position = entry.start + offset
                block, slot = self._slot(entry, position)
                assert readers[block] == 1, "a write into a block that others read"
                visible = [
                    self._read(entry, seen)
                    for seen in range(self._first_visible(position), position)
                ]
                last = content(position, token, visible)
                self._memory[block, slot] = (position, last)
                if entry.sampling is not None:
                    following.append(next_token(last, entry.sampling.seed))
            if entry.sampling is not None:
                sampled += verified(entry, following[-1 - entry.num_drafts :])
        return sampled

    def _first_visible(self, position: int) -> int:
        return max(position - self.window + 1, 0)

    def _read(self, entry: ScheduledSequence, position: int) -> int:
        stored_position, value = self._memory[self._slot(entry, position)]
        assert stored_position == position, "the slot holds another position's content"
        return value
