"""Running sequences: who holds blocks, seats and slots of the cache, and how room is made among them.

What the scheduler decides becomes true here, so that the counts of a sequence's way through the cache change
in one place: it begins with the blocks that it shares, its table grows, drafts that did not come true are
taken back, and all of it is let go of when it ends or is preempted (recompute, as in PagedAttention, Kwon et
al. 2023). Pure.
"""

from __future__ import annotations

import sys
from bisect import insort
from collections.abc import Iterator
from operator import attrgetter

from octavo.engine.adapter_seats import AdapterSeats
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.kv.block_upkeep import BlockUpkeep
from octavo.engine.kv.prefix_matching import Start
from octavo.engine.requests.sequence import Sequence, SequenceStatus
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.step_limits import SchedulerConfig
from octavo.engine.waiting_queue import WaitingQueue
from octavo.outputs import FinishReason

_ORDER = attrgetter("order")


class RunningSequences:
    """In the order in which they run: the greatest is preempted first.

    Args:
        waiting: Where preempted ones go.
    """

    def __init__(
        self, config: SchedulerConfig, blocks: BlockManager, waiting: WaitingQueue
    ) -> None:
        self._blocks = blocks
        self._waiting = waiting
        self.upkeep = BlockUpkeep(
            blocks,
            uses_prefix_cache=config.enable_prefix_caching,
            sliding_window=config.sliding_window,
            max_step_tokens=config.max_num_batched_tokens,
        )
        self.seats = AdapterSeats(config.max_adapters)
        self.in_order: list[Sequence] = []
        self.released: list[int] = []
        """Ids of those that let go of their blocks and of which no batch has told yet."""
        self.num_prefilling = 0
        self.num_scheduled_tokens = 0
        """Of all of them; the caller adds what a step lets run."""
        self.num_preemptions = 0

    def __len__(self) -> int:
        return len(self.in_order)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self.in_order)

    @property
    def num_decoding(self) -> int:
        """Those of which no known token waits to be computed."""
        return len(self.in_order) - self.num_prefilling

    def begin(self, batch: ScheduledBatch, sequence: Sequence, start: Start, count: int) -> None:
        """The sequence runs from now on: its first `count` tokens behind `start` in this step."""
        blocks = self._blocks
        blocks.start(sequence.sequence_id, start.shared, start.num_skipped)
        blocks.allocate(sequence.sequence_id, start.num_tokens + count)
        table = sequence.block_table = blocks.block_table(sequence.sequence_id)
        if start.copied is not None:
            batch.block_copies.append((start.copied, table[start.num_skipped + len(start.shared)]))
        self.upkeep.begin(sequence, start)
        if start.source is None and sequence.first_scheduled_time is None:
            sequence.num_cached_tokens = start.num_tokens
        sequence.num_scheduled_tokens = sequence.num_computed_tokens = start.num_tokens
        self.num_scheduled_tokens += start.num_tokens
        sequence.status = SequenceStatus.RUNNING
        self.seats.enter(sequence.adapter_id)
        insort(self.in_order, sequence, key=_ORDER)
        batch.admitted.append(sequence)
        batch.add_chunk(sequence, count)
        self.num_prefilling += sequence.is_prefilling

    def add_chunk(self, batch: ScheduledBatch, sequence: Sequence, count: int) -> bool:
        """Lets the next `count` known tokens of one that prefills run; False when it was preempted itself."""
        if not self.grow(sequence, sequence.num_scheduled_tokens + count):
            return False
        batch.add_chunk(sequence, count)
        self.num_prefilling -= not sequence.is_prefilling
        return True

    def grow(self, sequence: Sequence, num_tokens: int) -> bool:
        """Gives the sequence's table slots for so many tokens, and preempts from the youngest up for them;
        False when it was its own turn."""
        while not self._blocks.can_allocate(sequence.sequence_id, num_tokens):
            victim = self.in_order[-1]
            self.preempt(victim)
            if victim is sequence:
                return False
        self._blocks.allocate(sequence.sequence_id, num_tokens)
        return True

    def take_back(self, sequence: Sequence, num_rejected: int) -> int:
        """What lies in the slots of drafts that did not come true means nothing. Returns how many tokens are
        computed."""
        sequence.num_scheduled_tokens -= num_rejected
        self.num_scheduled_tokens -= num_rejected
        sequence.num_computed_tokens -= num_rejected
        self._blocks.shrink(sequence.sequence_id, sequence.num_scheduled_tokens)
        return sequence.num_computed_tokens

    def preempt(self, victim: Sequence) -> None:
        """It waits again; `victim` is mostly the last one."""
        if victim is self.in_order[-1]:
            self.in_order.pop()
        else:
            self.in_order.remove(victim)
        self.release(victim, SequenceStatus.WAITING)
        self._waiting.push(victim)
        self.num_preemptions += 1

    def release(self, sequence: Sequence, status: SequenceStatus) -> None:
        """Frees the sequence's blocks, if it runs; it stays in the order until `drop_ended`."""
        if sequence.status is SequenceStatus.RUNNING:
            is_sound = sequence.finish_reason is not FinishReason.ERROR
            self.upkeep.end(sequence, is_sound=is_sound)
            self._blocks.free(sequence.sequence_id)
            self.seats.leave(sequence.adapter_id)
            self.released.append(sequence.sequence_id)
            self.num_scheduled_tokens -= sequence.num_scheduled_tokens
            self.num_prefilling -= sequence.is_prefilling
        sequence.num_scheduled_tokens = sequence.num_computed_tokens = 0
        sequence.num_registered_blocks = 0
        sequence.settles_at = sys.maxsize
        sequence.is_prefilling = False
        sequence.block_table = ()
        sequence.status = status

    def drop_ended(self) -> None:
        finished = SequenceStatus.FINISHED
        self.in_order = [sequence for sequence in self.in_order if sequence.status is not finished]

    def check_integrity(self) -> None:
        """Raises `RuntimeError` unless blocks, tables and counts agree; see `BlockManager`."""
        running = self.in_order
        self.upkeep.check_integrity(running)
        self.seats.check_integrity(s.adapter_id for s in running)
        counts = (
            sum(s.num_scheduled_tokens for s in running),
            sum(s.is_prefilling for s in running),
        )
        if counts != (self.num_scheduled_tokens, self.num_prefilling):
            raise RuntimeError(
                f"Running sequences hold {counts[0]} tokens, {counts[1]} of them prefill; counted were "
                f"{self.num_scheduled_tokens} and {self.num_prefilling}."
            )
