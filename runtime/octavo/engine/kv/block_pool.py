"""Block pool. Which blocks of the KV cache are held, by how many, and which still hold something worth
finding again.

A block is in one of three states: *free* (nothing worth keeping), *held* (counted references), or *cached*:
nobody holds it, but its content is registered under a key and can be found until the block is needed. Of
the cached blocks the one that was given back first is reused first (LRU).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable


class OutOfBlocksError(Exception):
    """More blocks were asked for than are free: the caller did not look first."""


class BlockPool:
    """Blocks `0 … num_blocks - 1`. Pure bookkeeping: it touches no memory and knows no sequence."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._references = [0] * num_blocks
        # A stack: the block that was freed last is the one most likely still in a processor's cache.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()  # the next victim first
        self._keys: list[bytes | None] = [None] * num_blocks
        self._blocks_by_key: dict[bytes, int] = {}
        self._tails: set[int] = set()  # registered, and not worth keeping for long

    @property
    def num_available(self) -> int:
        """Free blocks and cached ones, which `take` reuses when no free one is left."""
        return len(self._free) + len(self._cached)

    def take(self) -> int:
        """A block for new content, with one reference.

        Raises:
            OutOfBlocksError: All blocks are held.
        """
        if self._free:
            block = self._free.pop()
        elif self._cached:
            block, _ = self._cached.popitem(last=False)
            self._forget(block)
        else:
            raise OutOfBlocksError(f"All {self.num_blocks} blocks are held.")
        self._references[block] = 1
        return block

    def share(self, block: int) -> None:
        """One more reference to a held or cached block."""
        if self._references[block] == 0:
            del self._cached[block]
        self._references[block] += 1

    def is_held(self, block: int) -> bool:
        return self._references[block] > 0

    def release(self, block: int) -> None:
        """One reference less; the last one frees the block, or caches it if its content is registered."""
        references = self._references[block] = self._references[block] - 1
        if references == 0:
            if self._keys[block] is None:
                self._free.append(block)
            else:
                self._cached[block] = None
                if block in self._tails:
                    self._cached.move_to_end(block, last=False)

    def register(self, block: int, key: bytes, *, is_tail: bool = False) -> None:
        """Makes the content of a held block findable; a key that another block has stays with that one.

        A tail is the next victim as soon as nobody holds it.
        """
        if self._keys[block] is None and key not in self._blocks_by_key:
            self._keys[block] = key
            self._blocks_by_key[key] = block
            if is_tail:
                self._tails.add(block)

    def find(self, key: bytes) -> int | None:
        """The block with this content, held or cached."""
        return self._blocks_by_key.get(key)

    def forget_cached(self) -> None:
        """Nothing of what nobody holds is found any more."""
        while self._cached:
            block, _ = self._cached.popitem()
            self._forget(block)
            self._free.append(block)

    def check_integrity(self, holders: Iterable[int]) -> None:
        """Raises `RuntimeError` unless every block is free, cached or held, and just as often as `holders`
        (block ids, one for each reference) says."""
        expected = Counter(holders)
        free = Counter(self._free)
        for block in range(self.num_blocks):
            references, held = self._references[block], expected[block]
            if references != held:
                raise RuntimeError(f"Block {block} counts {references} references, {held} hold it.")
            places = free[block] + (block in self._cached) + (references > 0)
            if places != 1:
                raise RuntimeError(
                    f"Block {block} is in {places} places: free {free[block]} times, "
                    f"cached {block in self._cached}, held {references} times."
                )
        registered = {key: block for block, key in enumerate(self._keys) if key is not None}
        if registered != self._blocks_by_key:
            raise RuntimeError("Keys and blocks do not mirror each other.")
        if any(self._keys[block] is None for block in self._cached):
            raise RuntimeError("A cached block has no key.")
        if any(self._keys[block] is None for block in self._tails):
            raise RuntimeError("A tail has no key.")

    def _forget(self, block: int) -> None:
        key = self._keys[block]
        if key is not None:
            del self._blocks_by_key[key]
            self._keys[block] = None
            self._tails.discard(block)
