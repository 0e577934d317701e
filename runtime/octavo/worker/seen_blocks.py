"""Seen blocks: the blocks of the KV cache of whose tokens a head has seen the model's hidden states.

While guesses rest nobody follows what the model computes (`octavo.engine.speculation.following`), and the
head's blocks of the same numbers hold what is no part of these texts. A sequence that begins behind such a
block begins there for the head, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo.worker.batch import ScheduledSequence


class SeenBlocks:
    """Args:
    block_size: Tokens of a block.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self._seen: set[int] = set()

    def clear(self) -> None:
        """Steps come that are not seen, in any block."""
        self._seen.clear()

    def copy(self, copies: Sequence[tuple[int, int]]) -> None:
        for source, target in copies:
            if source in self._seen:
                self._seen.add(target)
            else:
                self._seen.discard(target)

    def base(self, entry: ScheduledSequence) -> int:
        """Of a sequence that is new: 0 where all before the entry was seen, else the entry's position."""
        count = -(-entry.start // self.block_size)
        is_whole = all(block in self._seen for block in entry.block_ids[:count])
        return 0 if is_whole else entry.start

    def note(self, entry: ScheduledSequence, *, is_whole: bool) -> None:
        """The step's tokens are seen.

        Args:
            is_whole: As are all of the sequence before them.
        """
        start, count = entry.start, len(entry.token_ids)
        size = self.block_size
        if is_whole and count == 1 and start % size:
            return  # as the tokens before it in the block
        blocks = entry.block_ids[start // size : (start + count - 1) // size + 1]
        if is_whole:
            self._seen.update(blocks)
        else:
            self._seen.difference_update(blocks)
