"""Block manager. Who owns which block of the KV cache.

A block holds the keys and values of `block_size` consecutive tokens; the n-th block of a sequence's table
holds its tokens from `n * block_size` on (PagedAttention, Kwon et al. 2023). Full blocks may stand in many
tables at once, because nobody writes into them any more; a block that is still being filled stands in one
table alone. Blocks are taken only for tokens that are about to be computed, so that at most
`block_size - 1` slots of a sequence lie idle. The first blocks of a table may be dropped, when all that
follows sees only a window of tokens: their places stay, and nothing is held for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from octavo.engine.kv.block_pool import BlockPool, OutOfBlocksError

_DROPPED = 0
"""Stands in a table for a block that was dropped: a valid id that nobody reads."""


class BlockManager:
    """Hands out block ids `0 … num_blocks - 1`. Pure bookkeeping: it touches no memory."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError(
                f"num_blocks is {num_blocks} and block_size {block_size}; both must be at least 1."
            )
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._pool = BlockPool(num_blocks)
        self._tables: dict[int, list[int]] = {}
        self._dropped: dict[int, int] = {}  # of those tables that have any
        self._num_table_entries = 0  # without the dropped ones

    @property
    def num_free_blocks(self) -> int:
        """Blocks that no sequence holds. Those with cached content count: they go when they are needed."""
        return self._pool.num_available

    @property
    def num_blocks_saved(self) -> int:
        """Blocks that sharing and windows spare: entries in all tables beyond the blocks that are held."""
        entries = self._num_table_entries + sum(self._dropped.values())
        return entries - (self.num_blocks - self.num_free_blocks)

    @property
    def owners(self) -> AbstractSet[int]:
        """Sequences that have a table."""
        return self._tables.keys()

    def blocks_for(self, num_tokens: int) -> int:
        """How many blocks hold `num_tokens` tokens."""
        return -(-num_tokens // self.block_size)

    def can_allocate(self, sequence_id: int, num_tokens: int) -> bool:
        """Whether the sequence's table can grow to hold `num_tokens` tokens in total."""
        owned = len(self._tables.get(sequence_id, ()))
        return self.blocks_for(num_tokens) - owned <= self.num_free_blocks

    def can_start(self, num_blocks: int, shared: Sequence[int], spare: int) -> bool:
        """Whether a new sequence of `num_blocks` blocks, `shared` among them, fits, and `spare` blocks stay
        free."""
        from_free = num_blocks - sum(map(self._pool.is_held, shared))
        return from_free + spare <= self.num_free_blocks

    def start(self, sequence_id: int, shared: Sequence[int], num_dropped: int = 0) -> None:
        """Gives a sequence without blocks a table that begins with `num_dropped` dropped blocks and then
        `shared`, full blocks found by `find_block` or standing in another table."""
        if sequence_id in self._tables:
            raise ValueError(f"Sequence {sequence_id} has a table already.")
        for block in shared:
            self._pool.share(block)
        self._tables[sequence_id] = [_DROPPED] * num_dropped + list(shared)
        self._num_table_entries += len(shared)
        if num_dropped:
            self._dropped[sequence_id] = num_dropped

    def drop(self, sequence_id: int, num_blocks: int) -> None:
        """Lets go of the first `num_blocks` blocks of the sequence, those that are not dropped yet."""
        table, first = self._tables[sequence_id], self.num_dropped(sequence_id)
        if num_blocks <= first:
            return
        for index in range(first, num_blocks):
            self._pool.release(table[index])
            table[index] = _DROPPED
        self._num_table_entries -= num_blocks - first
        self._dropped[sequence_id] = num_blocks

    def num_dropped(self, sequence_id: int) -> int:
        """Blocks at the beginning of the sequence's table that are not held."""
        return self._dropped.get(sequence_id, 0)

    def num_passed(self, num_tokens: int, window: int) -> int:
        """Full blocks that no query from position `num_tokens` on sees, where a query at position p sees
        the keys `(p - window, p]`."""
        return max(num_tokens - window + 1, 0) // self.block_size

    def allocate(self, sequence_id: int, num_tokens: int) -> None:
        """Grows the sequence's table to hold `num_tokens` tokens in total; all or nothing.

        Raises:
            OutOfBlocksError: Not enough blocks are free; nothing changed.
        """
        table = self._tables.get(sequence_id)
        missing = self.blocks_for(num_tokens) - (0 if table is None else len(table))
        if missing <= 0:
            return
        if missing > self.num_free_blocks:
            raise OutOfBlocksError(
                f"Sequence {sequence_id} needs {missing} more blocks for {num_tokens} tokens, "
                f"{self.num_free_blocks} of {self.num_blocks} are free."
            )
        if table is None:
            table = self._tables[sequence_id] = []
        take = self._pool.take
        table.extend([take() for _ in range(missing)])
        self._num_table_entries += missing

    def shrink(self, sequence_id: int, num_tokens: int) -> None:
        """Lets go of the last blocks of the sequence's table, which none of its first `num_tokens` tokens is
        in. None of them is registered or shared."""
        table = self._tables[sequence_id]
        while len(table) > self.blocks_for(num_tokens):
            self._pool.release(table.pop())
            self._num_table_entries -= 1

    def free(self, sequence_id: int) -> None:
        """Lets go of all blocks of the sequence; one that owns none is fine.

        The last block goes first: of a cached chain the end is evicted before what it stands on.
        """
        table = self._tables.pop(sequence_id, None)
        if table is not None:
            first = self._dropped.pop(sequence_id, 0)
            self._num_table_entries -= len(table) - first
            release = self._pool.release
            for index in range(len(table) - 1, first - 1, -1):
                release(table[index])

    def block_table(self, sequence_id: int) -> Sequence[int]:
        """The live table: it grows in place until `free` ends it. Empty for a sequence without blocks."""
        return self._tables.get(sequence_id, ())

    def find_block(self, name: bytes) -> int | None:
        """The block whose content was registered under `name` (see `prefix_cache`)."""
        return self._pool.find(name)

    def forget_cached(self) -> None:
        """Empties the prefix cache, but for blocks that sequences hold."""
        self._pool.forget_cached()

    def register_blocks(self, sequence_id: int, first: int, names: Sequence[bytes]) -> None:
        """Makes the blocks of the sequence's table from index `first` on findable: they are full, and
        computed. Those that were dropped are not."""
        skipped = max(self.num_dropped(sequence_id) - first, 0)
        table, register = self._tables[sequence_id], self._pool.register
        for block, name in zip(table[first + skipped :], names[skipped:], strict=False):
            register(block, name)

    def register_tail(self, sequence_id: int, name: bytes) -> None:
        """Makes the last block of the sequence's table findable, which is partly filled and will not change
        any more. Whoever finds it copies it; it is the first to go when blocks are needed."""
        self._pool.register(self._tables[sequence_id][-1], name, is_tail=True)

    def check_integrity(self) -> None:
        """Raises `RuntimeError` unless every block is free, cached or owned, and reference counts sum up."""
        held = {name: table[self.num_dropped(name) :] for name, table in self._tables.items()}
        entries = [block for blocks in held.values() for block in blocks]
        self._pool.check_integrity(entries)
        if len(entries) != self._num_table_entries:
            raise RuntimeError(
                f"The tables have {len(entries)} entries, {self._num_table_entries} were counted."
            )
        if not self._dropped.keys() <= self._tables.keys():
            raise RuntimeError(f"Blocks of unknown sequences were dropped: {self._dropped}.")
        for name, blocks in held.items():
            if len(blocks) != len(set(blocks)):
                raise RuntimeError(f"The table of sequence {name} names a block twice: {blocks}.")
