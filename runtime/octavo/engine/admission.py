"""What a sequence that starts need not compute, because its KV lies in the cache already.

Two sources: blocks of the prefix cache, found by name, and a completion of the same request that has the
whole prompt (also where the prefix cache is off). Whichever spares more is taken; the last known token is
always computed, because what follows it is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo.engine.block_manager import BlockManager
from octavo.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Start:
    """Where a sequence begins.

    Args:
        num_tokens: That need not be computed.
        shared: The full blocks that hold them, in order.
        copied: The block whose first `num_tokens % block_size` slots hold the rest; it is still being
            written by its owner, so its content has to be copied.
        source: Whose blocks they are, unless they come from the prefix cache.
        missing: The name of the first block that the prefix cache could have given and has not.
    """

    num_tokens: int = 0
    shared: tuple[int, ...] = ()
    copied: int | None = None
    source: Sequence | None = None
    missing: bytes | None = None


def find_start(sequence: Sequence, blocks: BlockManager, uses_prefix_cache: bool) -> Start:
    """The best start of a waiting sequence. Changes nothing but `sequence.block_names`."""
    cached, missing = _cached_blocks(sequence, blocks) if uses_prefix_cache else ((), None)
    num_cached = len(cached) * blocks.block_size
    source = None if sequence.group is None else sequence.group.find_source()
    num_common = min(sequence.num_prompt_tokens, sequence.num_tokens - 1)
    if source is None or num_common <= num_cached:
        return Start(num_cached, cached, missing=missing)
    num_full, rest = divmod(num_common, blocks.block_size)
    sequence.block_names.inherit(source.block_names, num_full)
    return Start(
        num_common,
        tuple(source.block_table[:num_full]),
        source.block_table[num_full] if rest else None,
        source,
    )


def _cached_blocks(
    sequence: Sequence, blocks: BlockManager
) -> tuple[tuple[int, ...], bytes | None]:
    """The longest prefix of full blocks that the cache holds, without the last known token, and the name of
    the block that ends it, if there is one."""
    found: list[int] = []
    for index in range((sequence.num_tokens - 1) // blocks.block_size):
        name = block_name(sequence, index, blocks.block_size)
        block = blocks.find_block(name)
        if block is None:
            return tuple(found), name
        found.append(block)
    return tuple(found), None


def block_name(sequence: Sequence, index: int, block_size: int) -> bytes:
    """The name of the sequence's `index`-th block; the names before it must have been asked for."""
    names = sequence.block_names
    if index < len(names):
        return names[index]
    return names.append(sequence.tokens(index * block_size, (index + 1) * block_size))
