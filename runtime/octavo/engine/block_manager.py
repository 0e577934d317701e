"""Who owns which block of the KV cache.

A block holds the keys and values of `block_size` consecutive tokens; the n-th block of a sequence's table
holds its tokens from `n * block_size` on (PagedAttention, Kwon et al. 2023). Full blocks may stand in many
tables at once, because nobody writes into them any more; a block that is still being filled stands in one
table alone. Blocks are taken only for tokens that are about to be computed, so that at most
`block_size - 1` slots of a sequence lie idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from octavo.engine.block_pool import BlockPool, OutOfBlocksError


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
        self._num_table_entries = 0

    @property
    def num_free_blocks(self) -> int:
        """Blocks that no sequence holds. Those with cached content count: they go when they are needed."""
        return self._pool.num_available

    @property
    def num_blocks_saved(self) -> int:
        """Blocks that sharing spares: entries in all tables beyond the blocks that are held."""
        return self._num_table_entries - (self.num_blocks - self.num_free_blocks)

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

    def can_start(self, num_tokens: int, shared: Sequence[int], spare: int) -> bool:
        """Whether a new sequence of `num_tokens` tokens that begins with the blocks `shared` fits, and
        `spare` blocks stay free."""
        from_free = self.blocks_for(num_tokens) - sum(map(self._pool.is_held, shared))
        return from_free + spare <= self.num_free_blocks

    def start(self, sequence_id: int, shared: Sequence[int]) -> None:
        """Gives a sequence without blocks a table that begins with `shared`, full blocks found by
        `find_block` or standing in another table."""
        if sequence_id in self._tables:
            raise ValueError(f"Sequence {sequence_id} has a table already.")
        for block in shared:
            self._pool.share(block)
        self._tables[sequence_id] = list(shared)
        self._num_table_entries += len(shared)

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

    def free(self, sequence_id: int) -> None:
        """Lets go of all blocks of the sequence; one that owns none is fine.

        The last block goes first: of a cached chain the end is evicted before what it stands on.
        """
        table = self._tables.pop(sequence_id, None)
        if table is not None:
            self._num_table_entries -= len(table)
            release = self._pool.release
            for block in reversed(table):
                release(block)

    def block_table(self, sequence_id: int) -> Sequence[int]:
        """The live table: it grows in place until `free` ends it. Empty for a sequence without blocks."""
        return self._tables.get(sequence_id, ())

    def find_block(self, name: bytes) -> int | None:
        """The block whose content was registered under `name` (see `prefix_cache`)."""
        return self._pool.find(name)

    def register_block(self, sequence_id: int, index: int, name: bytes) -> None:
        """Makes the `index`-th block of the sequence findable: it is full, and computed."""
        self._pool.register(self._tables[sequence_id][index], name)

    def check_integrity(self) -> None:
        """Raises `RuntimeError` unless every block is free, cached or owned, and reference counts sum up."""
        entries = [block for table in self._tables.values() for block in table]
        self._pool.check_integrity(entries)
        if len(entries) != self._num_table_entries:
            raise RuntimeError(
                f"The tables have {len(entries)} entries, {self._num_table_entries} were counted."
            )
        for name, table in self._tables.items():
            if len(table) != len(set(table)):
                raise RuntimeError(f"The table of sequence {name} names a block twice: {table}.")
