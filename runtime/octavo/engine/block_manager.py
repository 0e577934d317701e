"""Who owns which block of the KV cache.

A block holds the keys and values of `block_size` consecutive tokens of one sequence. Every block is either
free or in exactly one sequence's table; the n-th block of a table holds the tokens from `n * block_size` on
(PagedAttention, Kwon et al. 2023). Blocks are taken only for tokens that are about to be computed, so that
at most `block_size - 1` slots of a sequence lie idle.
"""

from __future__ import annotations

from collections.abc import Sequence


class OutOfBlocksError(Exception):
    """More blocks were asked for than are free: the caller did not look first."""


class BlockManager:
    """Hands out block ids `0 … num_blocks - 1`. Pure bookkeeping: it touches no memory."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError(
                f"num_blocks is {num_blocks} and block_size {block_size}; both must be at least 1."
            )
        self.num_blocks = num_blocks
        self.block_size = block_size
        # A stack: the block that was freed last is the one most likely still in a processor's cache.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._tables: dict[int, list[int]] = {}

    @property
    def num_free_blocks(self) -> int:
        return len(self._free)

    def blocks_for(self, num_tokens: int) -> int:
        """How many blocks hold `num_tokens` tokens."""
        return -(-num_tokens // self.block_size)

    def can_allocate(self, sequence_id: int, num_tokens: int) -> bool:
        """Whether the sequence's table can grow to hold `num_tokens` tokens in total."""
        owned = len(self._tables.get(sequence_id, ()))
        return self.blocks_for(num_tokens) - owned <= len(self._free)

    def allocate(self, sequence_id: int, num_tokens: int) -> None:
        """Grows the sequence's table to hold `num_tokens` tokens in total; all or nothing.

        Raises:
            OutOfBlocksError: Not enough blocks are free; nothing changed.
        """
        table = self._tables.get(sequence_id)
        missing = self.blocks_for(num_tokens) - (0 if table is None else len(table))
        if missing <= 0:
            return
        if missing > len(self._free):
            raise OutOfBlocksError(
                f"Sequence {sequence_id} needs {missing} more blocks for {num_tokens} tokens, "
                f"{len(self._free)} of {self.num_blocks} are free."
            )
        if table is None:
            table = self._tables[sequence_id] = []
        table.extend(self._free.pop() for _ in range(missing))

    def free(self, sequence_id: int) -> None:
        """Gives all blocks of the sequence back; one that owns none is fine."""
        table = self._tables.pop(sequence_id, None)
        if table is not None:
            self._free.extend(reversed(table))

    def block_table(self, sequence_id: int) -> Sequence[int]:
        """The live table: it grows in place until `free` ends it. Empty for a sequence without blocks."""
        return self._tables.get(sequence_id, ())

    def check_integrity(self) -> None:
        """Raises `RuntimeError` unless every block is free or owned exactly once."""
        owners: dict[int, str] = {}
        holdings = [("the free list", self._free)]
        holdings += [(f"sequence {name}", table) for name, table in self._tables.items()]
        for owner, blocks in holdings:
            for block in blocks:
                if block in owners:
                    raise RuntimeError(f"Block {block} is in {owners[block]} and in {owner}.")
                owners[block] = owner
        if owners.keys() != set(range(self.num_blocks)):
            lost = sorted(set(range(self.num_blocks)) ^ owners.keys())
            raise RuntimeError(f"Blocks {lost} are lost or were never handed out.")
