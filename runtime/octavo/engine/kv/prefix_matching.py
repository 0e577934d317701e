"""Prefix matching. What a sequence that starts need not compute, because its KV lies in the cache already.

Two sources: blocks of the prefix cache, found by name, and a completion of the same request that has the
whole prompt (also where the prefix cache is off). Whichever spares more is taken; the last known token is
always computed, because what follows it is wanted.

A request for one token is how a search goes on: the next one is its prompt and a token more (beam search
does so, for every beam). It leaves its last, partial block to be found by those, who copy it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.requests.sequence import Sequence
from octavo.engine.requests.siblings import SiblingGroup

_NAMED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Start:
    """Where a sequence begins.

    Args:
        num_tokens: That need not be computed.
        num_skipped: Full blocks at the beginning that lie behind the sliding window: nobody reads them.
        shared: The full blocks after those, in order.
        copied: The block whose first `num_tokens % block_size` slots hold the rest. Its owner is still
            writing it, or others want it too, so its content has to be copied.
        source: Whose blocks they are, unless they come from the prefix cache.
        missing: The name of the first block that the prefix cache could have given and has not.
    """

    num_tokens: int = 0
    num_skipped: int = 0
    shared: tuple[int, ...] = ()
    copied: int | None = None
    source: Sequence | None = None
    missing: bytes | None = None


def find_start(
    sequence: Sequence,
    blocks: BlockManager,
    *,
    uses_prefix_cache: bool,
    sliding_window: int | None = None,
) -> Start:
    """The best start of a waiting sequence. Changes nothing but `sequence.block_names`.

    Args:
        sliding_window: Tokens that a query sees at most in any layer; None: all.
    """
    start = Start()
    if uses_prefix_cache and not sequence.must_compute_prompt:
        start = (
            _longest_prefix(sequence, blocks)
            if sliding_window is None
            else _last_window(sequence, blocks, sliding_window)
        )
        if sequence.max_output_tokens == 1 and start.missing is None:
            start = _with_tail(sequence, blocks, start)
    if sequence.group is None:
        return start
    num_common = min(sequence.num_prompt_tokens, sequence.num_tokens - 1)
    if num_common <= start.num_tokens:
        return start
    return _sibling_start(sequence, sequence.group, num_common, blocks, sliding_window) or start


def _sibling_start(
    sequence: Sequence,
    group: SiblingGroup,
    num_common: int,
    blocks: BlockManager,
    sliding_window: int | None,
) -> Start | None:
    """After the prompt, which another completion has; None if none still holds what is visible from there."""
    num_skipped = 0 if sliding_window is None else blocks.num_passed(num_common, sliding_window)
    for source in group.sources():
        if blocks.num_dropped(source.sequence_id) <= num_skipped:
            break
    else:
        return None
    num_full, rest = divmod(num_common, blocks.block_size)
    sequence.block_names.inherit(source.block_names, num_full)
    table = source.block_table
    return Start(
        num_common,
        num_skipped,
        tuple(table[num_skipped:num_full]),
        table[num_full] if rest else None,
        source,
    )


def _longest_prefix(sequence: Sequence, blocks: BlockManager) -> Start:
    """The longest prefix of full blocks that the cache holds, without the last known token."""
    size = blocks.block_size
    num_usable = (sequence.num_tokens - 1) // size
    found: list[int] = []
    while len(found) < num_usable:
        # Not all names at once: a prompt that hits nothing, or has to wait, needs the first one only.
        count = min(num_usable, len(found) + _NAMED_AT_ONCE)
        for name in block_names(sequence, len(found), count, size):
            block = blocks.find_block(name)
            if block is None:
                return Start(len(found) * size, shared=tuple(found), missing=name)
            found.append(block)
    return Start(len(found) * size, shared=tuple(found))


def _last_window(sequence: Sequence, blocks: BlockManager, sliding_window: int) -> Start:
    """The longest prefix whose last window of blocks the cache holds: what came before, no query sees."""
    size = blocks.block_size
    names = block_names(sequence, 0, (sequence.num_tokens - 1) // size, size)
    found: list[int] = []  # from the end on
    end = index = len(names)
    while index > blocks.num_passed(end * size, sliding_window):
        index -= 1
        block = blocks.find_block(names[index])
        if block is None:
            end = index
            found.clear()
        else:
            found.append(block)
    missing = names[end] if end < len(names) else None
    return Start(end * size, index, tuple(reversed(found)), missing=missing)


def _with_tail(sequence: Sequence, blocks: BlockManager, start: Start) -> Start:
    """Adds the partial block that the request left which ended one token ago, if it is still there."""
    stop = sequence.num_tokens - 1
    if stop > start.num_tokens:
        block = blocks.find_block(tail_name(sequence, stop, blocks.block_size))
        if block is not None:
            return dataclasses.replace(start, num_tokens=stop, copied=block)
    return start


def tail_name(sequence: Sequence, stop: int, block_size: int) -> bytes:
    """The name of the partial block that ends before token `stop`; the full ones before it were named."""
    num_full = stop // block_size
    return sequence.block_names.tail(num_full, sequence.tokens(num_full * block_size, stop))


def block_names(sequence: Sequence, first: int, stop: int, block_size: int) -> list[bytes]:
    """The names of the sequence's blocks from `first` up to `stop`, all of whose tokens are known."""
    names = sequence.block_names
    if len(names) < stop:
        names.extend(sequence.tokens(len(names) * block_size, stop * block_size), block_size)
    return names.between(first, stop)
