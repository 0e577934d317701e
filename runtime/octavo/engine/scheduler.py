"""Decides which tokens of which sequences run in the next step.

Continuous batching (Orca, Yu et al. 2022) over a paged KV cache (PagedAttention, Kwon et al. 2023) with
chunked prefill (Sarathi-Serve, Agrawal et al. 2024): one batch mixes decodes and prompt chunks. Pure: no
clock, no I/O, no randomness, so that the same calls always give the same batches.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from octavo.engine.block_manager import BlockManager
from octavo.engine.sequence import Sequence, SequenceStatus
from octavo.outputs import FinishReason
from octavo.worker.batch import SampledToken, ScheduledSequence

_ORDER = attrgetter("order")
_WATERMARK = 0.01
"""Share of the blocks that an admission leaves free, for the decodes of the next steps."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """The limits of one step; see `EngineConfig` for the first two."""

    max_num_seqs: int
    max_num_batched_tokens: int
    eos_token_ids: frozenset[int] = frozenset()


@dataclass(slots=True)
class ScheduledBatch:
    """One step: `entries[i]` is the share of `sequences[i]`; `admitted` left the waiting queue for it."""

    sequences: list[Sequence] = field(default_factory=list)
    entries: list[ScheduledSequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    num_tokens: int = 0

    def add(self, sequence: Sequence, count: int) -> None:
        """Lets the sequence's next `count` tokens run; their slots must be allocated."""
        start = sequence.num_computed_tokens
        reaches_end = start + count == sequence.num_tokens
        self.sequences.append(sequence)
        self.entries.append(
            ScheduledSequence(
                sequence_id=sequence.sequence_id,
                token_ids=sequence.next_tokens(count),
                start=start,
                block_ids=sequence.block_table,
                sampling=sequence.sampling if reaches_end else None,
            )
        )
        self.num_tokens += count


@dataclass(frozen=True, slots=True)
class SequenceUpdate:
    """A sequence that got a token; `sequence.finish_reason` is set when it was the last one."""

    sequence: Sequence
    sampled: SampledToken


class Scheduler:
    """First come, first served, within equal priority.

    Promises, which the property tests hold it to:
        - A step never exceeds `max_num_batched_tokens` tokens or `max_num_seqs` sequences.
        - Every running sequence that decodes gets its token in each step, unless it is preempted.
        - Sequences are admitted for the first time in the order of priority and arrival; nobody overtakes.
        - The first running sequence always makes progress, so all of them finish.
        - Preemption takes the last running sequence, frees its blocks and recomputes it later from prompt
          and output, which changes nothing that was generated.
    """

    def __init__(self, config: SchedulerConfig, block_manager: BlockManager) -> None:
        self._config = config
        self._blocks = block_manager
        self._watermark_blocks = max(1, int(block_manager.num_blocks * _WATERMARK))
        self._running: list[Sequence] = []  # sorted by `order`
        self._waiting: list[
            tuple[tuple[int, int], Sequence]
        ] = []  # heap; may hold finished sequences
        self._alive: dict[int, Sequence] = {}
        self.num_preemptions = 0
        self.num_tokens_held = 0

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """New and preempted sequences."""
        return len(self._alive) - len(self._running)

    @property
    def has_work(self) -> bool:
        return bool(self._alive)

    def fits(self, num_tokens: int) -> bool:
        """Whether a sequence of this many tokens fits the cache when it is alone."""
        return self._blocks.blocks_for(num_tokens) <= self._blocks.num_blocks

    def add(self, sequence: Sequence) -> None:
        """Queues a new sequence.

        Raises:
            ValueError: It could outgrow the whole KV cache and would then never finish.
        """
        longest = len(sequence.prompt_token_ids) + sequence.max_output_tokens - 1
        if not self.fits(longest):  # the last token is never fed back, so it needs no slot
            raise ValueError(
                f"Sequence {sequence.sequence_id} may hold {longest} tokens, but the KV cache holds "
                f"{self._blocks.num_blocks * self._blocks.block_size}."
            )
        self._alive[sequence.sequence_id] = sequence
        heapq.heappush(self._waiting, (sequence.order, sequence))

    def abort(
        self, sequence_ids: Iterable[int], reason: FinishReason = FinishReason.ABORT
    ) -> list[Sequence]:
        """Ends these sequences and frees their blocks; returns those that were alive."""
        ended = [self._alive[name] for name in sequence_ids if name in self._alive]
        if ended:
            for sequence in ended:
                sequence.finish_reason = reason
                self._release(sequence, SequenceStatus.FINISHED)
            self._drop_ended()
        return ended

    def schedule(self) -> ScheduledBatch:
        """The next step. Allocates its blocks; `update` must follow before the next call."""
        batch = ScheduledBatch()
        self._schedule_running(batch)
        self._admit(batch)
        return batch

    def update(
        self, batch: ScheduledBatch, sampled: Iterable[SampledToken]
    ) -> list[SequenceUpdate]:
        """Takes in what a step computed: its tokens now lie in the cache, the sampled ones follow.

        Raises:
            ValueError: `sampled` does not hold one token for each entry with `sampling`, in order.
        """
        pairs = [
            pair for pair in zip(batch.sequences, batch.entries, strict=True) if pair[1].sampling
        ]
        tokens = list(sampled)
        got = [token.sequence_id for token in tokens]
        if got != [entry.sequence_id for _, entry in pairs]:
            raise ValueError(
                f"The step sampled {len(got)} tokens for {len(pairs)} sequences: {got}."
            )
        for sequence, entry in zip(batch.sequences, batch.entries, strict=True):
            if sequence.status is SequenceStatus.RUNNING:
                sequence.num_computed_tokens += len(entry.token_ids)
                self.num_tokens_held += len(entry.token_ids)
        updates = []
        any_finished = False
        for (sequence, _), token in zip(pairs, tokens, strict=True):
            if sequence.status is not SequenceStatus.RUNNING:
                continue  # aborted while the step ran
            sequence.output_token_ids.append(token.token_id)
            if self._is_complete(sequence, token.token_id):
                self._release(sequence, SequenceStatus.FINISHED)
                any_finished = True
            updates.append(SequenceUpdate(sequence, token))
        if any_finished:
            self._drop_ended()
        return updates

    def _schedule_running(self, batch: ScheduledBatch) -> None:
        """Oldest first, so that whoever is preempted for blocks has no share in this step yet."""
        running = self._running
        decodes_ahead = sum(_remaining(sequence) == 1 for sequence in running)
        position = 0
        while position < len(running):
            sequence = running[position]
            remaining = _remaining(sequence)
            if remaining == 1:
                decodes_ahead -= 1
            count = min(remaining, self._budget(batch) - decodes_ahead)
            position += 1
            if count <= 0:
                continue  # a prompt waits while the decodes behind it take the rest of the budget
            needed = sequence.num_computed_tokens + count
            if needed > len(sequence.block_table) * self._blocks.block_size:
                self._make_room(sequence, needed)
                if sequence.status is not SequenceStatus.RUNNING:
                    break  # it was the youngest itself
                self._blocks.allocate(sequence.sequence_id, needed)
            batch.add(sequence, count)

    def _make_room(self, sequence: Sequence, num_tokens: int) -> None:
        """Preempts from the youngest up, at worst `sequence` itself, until its table can grow."""
        while not self._blocks.can_allocate(sequence.sequence_id, num_tokens):
            victim = self._running.pop()
            self._release(victim, SequenceStatus.WAITING)
            heapq.heappush(self._waiting, (victim.order, victim))
            self.num_preemptions += 1
            if victim is sequence:
                return

    def _admit(self, batch: ScheduledBatch) -> None:
        """Starts waiting sequences in order, while all their tokens find room beside the running ones."""
        while (
            self._waiting
            and self._budget(batch) > 0
            and len(self._running) < self._config.max_num_seqs
        ):
            sequence = self._waiting[0][1]
            if sequence.is_finished:  # aborted while it waited
                heapq.heappop(self._waiting)
                continue
            count = min(sequence.num_tokens, self._budget(batch))
            spare = self._watermark_blocks if self._running else 0
            if self._blocks.blocks_for(sequence.num_tokens) + spare > self._blocks.num_free_blocks:
                break
            heapq.heappop(self._waiting)
            self._blocks.allocate(sequence.sequence_id, count)
            sequence.block_table = self._blocks.block_table(sequence.sequence_id)
            sequence.status = SequenceStatus.RUNNING
            insort(self._running, sequence, key=_ORDER)
            batch.admitted.append(sequence)
            batch.add(sequence, count)

    def _budget(self, batch: ScheduledBatch) -> int:
        return self._config.max_num_batched_tokens - batch.num_tokens

    def _is_complete(self, sequence: Sequence, token_id: int) -> bool:
        """Sets the finish reason when `token_id` was the sequence's last."""
        params = sequence.params
        if token_id in params.stop_token_ids:
            sequence.finish_reason = FinishReason.STOP
            sequence.stop_reason = token_id
        elif token_id in self._config.eos_token_ids and not params.ignore_eos:
            sequence.finish_reason = FinishReason.STOP
        elif len(sequence.output_token_ids) >= sequence.max_output_tokens:
            sequence.finish_reason = FinishReason.LENGTH
        return sequence.finish_reason is not None

    def _release(self, sequence: Sequence, status: SequenceStatus) -> None:
        """Frees the sequence's blocks. The caller takes it out of `_running`."""
        self._blocks.free(sequence.sequence_id)
        self.num_tokens_held -= sequence.num_computed_tokens
        sequence.num_computed_tokens = 0
        sequence.block_table = ()
        sequence.status = status
        if status is SequenceStatus.FINISHED:
            del self._alive[sequence.sequence_id]

    def _drop_ended(self) -> None:
        self._running = [sequence for sequence in self._running if not sequence.is_finished]


def _remaining(sequence: Sequence) -> int:
    """Tokens that are known but not computed: 1 for a decode, more for a prompt or a recomputation."""
    return sequence.num_tokens - sequence.num_computed_tokens
