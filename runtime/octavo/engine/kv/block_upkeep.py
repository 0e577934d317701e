"""Block upkeep. What becomes of a sequence's blocks while its tokens are computed.

Full blocks of the prompt are registered for the prefix cache at once, those of the output when the sequence
lets go of them: nobody asks for them before, and a decode step stays free of hashing. Where every layer
attends within a sliding window, blocks that no later query sees are dropped: a sequence then holds one
window of blocks, however long it gets.
"""

from __future__ import annotations

import sys

from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.kv.prefix_matching import Start, block_names, find_start, tail_name
from octavo.engine.kv.prefixes_in_flight import PrefixesInFlight
from octavo.engine.requests.sequence import Sequence


class BlockUpkeep:
    """Of all running sequences. It sets the fields of a sequence that say what the next call has to do.

    Args:
        sliding_window: Tokens that a query sees at most in any layer; None: all.
        max_step_tokens: Tokens that a step may compute.
    """

    def __init__(
        self,
        blocks: BlockManager,
        *,
        uses_prefix_cache: bool,
        sliding_window: int | None,
        max_step_tokens: int,
    ) -> None:
        self._blocks = blocks
        self._uses_prefix_cache = uses_prefix_cache
        self._window = sliding_window
        self._max_step_tokens = max_step_tokens
        self.prefixes = PrefixesInFlight()

    def find_start(self, sequence: Sequence) -> Start | None:
        """Where the sequence would begin now; None while it should wait for a prefix."""
        if self.prefixes.will_bring(sequence.awaited_block, sequence):
            return None  # as in the step before: the cache need not be searched again
        start = find_start(
            sequence,
            self._blocks,
            uses_prefix_cache=self._uses_prefix_cache,
            sliding_window=self._window,
        )
        sequence.awaited_block = start.missing
        return None if self.prefixes.will_bring(start.missing, sequence) else start

    def num_blocks_needed(self, sequence: Sequence, start: Start | None) -> int:
        """Blocks that the sequence holds at most until its known tokens are computed."""
        num_skipped = 0 if start is None else start.num_skipped
        needed = self._blocks.blocks_for(sequence.num_tokens) - num_skipped
        if self._window is None:
            return needed
        # One window, and the chunks of the two steps that may be in flight before it moves.
        visible = self._window + 2 * self._max_step_tokens
        return min(needed, self._blocks.blocks_for(visible) + 1)

    def begin(self, sequence: Sequence, start: Start) -> None:
        """The sequence runs from now on; its table begins with the blocks of `start`."""
        sequence.num_registered_blocks = start.num_skipped + len(start.shared)
        self._look_ahead(sequence)

    def settle(self, sequence: Sequence) -> None:
        """To be called when `num_computed_tokens` has reached `settles_at`."""
        if self._uses_prefix_cache and sequence.num_registered_blocks < self._num_full(sequence):
            self._register(sequence)
        if self._window is not None:
            self._blocks.drop(
                sequence.sequence_id,
                self._blocks.num_passed(sequence.num_computed_tokens, self._window),
            )
        self._look_ahead(sequence)

    def end(self, sequence: Sequence, *, is_sound: bool) -> None:
        """The sequence lets go of its blocks next; without `is_sound` nothing more of them is registered."""
        if self._uses_prefix_cache and is_sound:
            self._register(sequence)
            if sequence.max_output_tokens == 1:
                self._leave_tail(sequence)
        self.prefixes.withdraw(sequence)

    def check_integrity(self, running: list[Sequence]) -> None:
        """Raises `RuntimeError` unless blocks, tables, and who owns and announces some, agree."""
        self._blocks.check_integrity()
        self.prefixes.check_integrity(running)
        strangers = self._blocks.owners - {sequence.sequence_id for sequence in running}
        if strangers:
            raise RuntimeError(f"Sequences {sorted(strangers)} own blocks and do not run.")

    def _num_full(self, sequence: Sequence) -> int:
        computed = min(sequence.num_computed_tokens, sequence.num_prompt_tokens)
        return computed // self._blocks.block_size

    def _register(self, sequence: Sequence) -> None:
        """All that are full and computed."""
        size, first = self._blocks.block_size, sequence.num_registered_blocks
        num_full = sequence.num_computed_tokens // size
        if num_full > first:
            names = block_names(sequence, first, num_full, size)
            self._blocks.register_blocks(sequence.sequence_id, first, names)
            sequence.num_registered_blocks = num_full

    def _leave_tail(self, sequence: Sequence) -> None:
        """The partial block at the prompt's end, for a request that goes on from there."""
        stop, size = sequence.num_prompt_tokens, self._blocks.block_size
        if sequence.num_computed_tokens == stop and stop % size:
            name = tail_name(sequence, stop, size)
            self._blocks.register_tail(sequence.sequence_id, name)

    def _look_ahead(self, sequence: Sequence) -> None:
        """Sets when there is something to do next, and says what the sequence computes next."""
        index, size = sequence.num_registered_blocks, self._blocks.block_size
        settles_at = sys.maxsize
        if self._uses_prefix_cache and (index + 1) * size <= sequence.num_prompt_tokens:
            settles_at = (index + 1) * size
            (name,) = block_names(sequence, index, index + 1, size)
            self.prefixes.announce(sequence, name)
        else:
            self.prefixes.withdraw(sequence)
        if self._window is not None:
            num_dropped = self._blocks.num_dropped(sequence.sequence_id)
            settles_at = min(settles_at, (num_dropped + 1) * size + self._window - 1)
        sequence.settles_at = settles_at
