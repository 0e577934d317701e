"""Scheduler. Decides which tokens of which sequences run in the next step.

Continuous batching (Orca, Yu et al. 2022) over a paged KV cache (PagedAttention, Kwon et al. 2023) with
chunked prefill (Sarathi-Serve, Agrawal et al. 2024): one batch mixes decodes and prompt chunks. Pure: no
clock, no I/O, no randomness, so that the same calls always give the same batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as AbstractSequence

from octavo.engine.fair_share import PromptShares
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.requests.end_conditions import take_tokens
from octavo.engine.requests.sequence import Sequence, SequenceStatus
from octavo.engine.running_sequences import RunningSequences
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.step_limits import SchedulerConfig, room_for_drafts
from octavo.engine.tenant_turns import TenantTurns
from octavo.engine.waiting_queue import WaitingQueue
from octavo.outputs import FinishReason
from octavo.sampling.state import SampledToken
from octavo.worker.batch import PENDING_TOKEN, ScheduledSequence

_PENDING = (PENDING_TOKEN,)
_NO_DRAFTS: Mapping[int, AbstractSequence[int]] = {}
_MOST_PASSED = 64
"""Waiting sequences that a step looks past."""
_WATERMARK = 0.01
"""Share of the blocks that an admission leaves free, for the next steps' decodes."""


class Scheduler:
    """First come, first served, within equal priority and one tenant; in turns between tenants (`FairShare`).

    A step may be scheduled while the one before it still runs: its decodes carry `PENDING_TOKEN` then. Per
    step, `schedule` comes before `update`, and at most one more `schedule` may come in between.

    Promises, which the property tests hold it to:
        - A step never exceeds `max_num_batched_tokens` tokens or `max_num_seqs` sequences.
        - Every running sequence that decodes gets its token in each step, unless it is preempted, the step
          in flight makes its last one for certain, what shapes its scores must know that one first
          (`LogitsProcessor.waits_for_token`), or a tenant that had nothing begins in this step: then it is
          left out of this step, and never of two in turn for the last reason.
        - Requests are admitted for the first time in the order of priority and turn. Nobody overtakes,
          but for those that wait while one admitted before computes their prefix (`PrefixesInFlight`):
          whoever passes them leaves a seat and blocks for each, and computes its whole prompt in that step.
          Also passed, by the base model's alone, is whoever waits for a seat of its adapter (`AdapterSeats`).
          The completions of one request but for its first come after its prompt is computed, before all
          that is younger.
        - The first running sequence always makes progress, so all of them finish.
        - Drafts take what a step has left: no sequence is preempted for them, and no decode waits.
        - Preemption takes the last running sequence (of a tenant that holds more than its part, when it keeps
          another one out) and recomputes it later, which changes nothing that was generated. It happens only
          then, and when blocks run out.
    """

    def __init__(self, config: SchedulerConfig, block_manager: BlockManager) -> None:
        self._config = config
        self._blocks = block_manager
        self._watermark_blocks = max(1, int(block_manager.num_blocks * _WATERMARK))
        self._waiting = WaitingQueue()
        self._alive: dict[int, Sequence] = {}
        self._running = RunningSequences(config, block_manager, self._waiting)
        self._turns = TenantTurns(
            config,
            block_manager,
            self._running,
            self._waiting,
            watermark_blocks=self._watermark_blocks,
        )

    @property
    def uses_prefix_cache(self) -> bool:
        return self._config.enable_prefix_caching

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def running_adapters(self) -> Mapping[int, int]:
        """How many running sequences have each adapter, by its id."""
        return self._running.seats.running

    @property
    def num_waiting(self) -> int:  # also completions that wait for their request's prompt
        return len(self._alive) - len(self._running)

    @property
    def num_tokens_held(self) -> int:
        """Slots of held blocks that are filled, or will be by the steps in flight; shared ones count once."""
        num_shared = self._blocks.num_blocks_saved * self._blocks.block_size
        return self._running.num_scheduled_tokens - num_shared

    @property
    def num_preemptions(self) -> int:
        return self._running.num_preemptions

    @property
    def has_work(self) -> bool:
        return bool(self._alive)

    def fits(self, num_tokens: int) -> bool:
        """Whether a sequence of this many tokens fits the cache when it is alone."""
        return self._blocks.blocks_for(num_tokens) <= self._blocks.num_blocks

    def add(self, sequence: Sequence) -> None:
        """Queues a new sequence, or parks it until its group's prompt is computed.

        Raises:
            ValueError: It could outgrow the whole KV cache and would then never finish.
        """
        longest = sequence.max_fed_tokens
        if not self.fits(longest):
            raise ValueError(
                f"Sequence {sequence.sequence_id} may hold {longest} tokens, but the KV cache holds "
                f"{self._blocks.num_blocks * self._blocks.block_size}."
            )
        self._alive[sequence.sequence_id] = sequence
        self._turns.shares.enter(sequence)
        if sequence.group is None or sequence.group.join(sequence):
            self._waiting.push(sequence)

    def abort(
        self, sequence_ids: Iterable[int], reason: FinishReason = FinishReason.ABORT
    ) -> list[Sequence]:
        """Ends these sequences and frees their blocks; returns those that were alive."""
        ended = [self._alive[name] for name in sequence_ids if name in self._alive]
        for sequence in ended:
            sequence.finish_reason = reason
            self._finish(sequence)
        self._running.drop_ended()
        return ended

    @property
    def num_decoding(self) -> int:
        """Running sequences of which no known token waits to be computed."""
        return self._running.num_decoding

    @property
    def decoding(self) -> list[Sequence]:
        """Running sequences of which every known token but the last is computed."""
        return [each for each in self._running if each.num_scheduled_tokens + 1 == each.num_tokens]

    def schedule(self, drafts: Mapping[int, AbstractSequence[int]] = _NO_DRAFTS) -> ScheduledBatch:
        """The next step, with its blocks allocated; without entries when nothing can run.

        Args:
            drafts: By sequence id, guesses of the next tokens of some that are `decoding`.
        """
        batch = ScheduledBatch()
        guest = self._turns.begin_step()
        if guest is not None:
            budget = self._config.max_num_batched_tokens
            self._admit(batch, PromptShares(1, budget, only=guest))
        if not batch.entries:
            preemptions = self.num_preemptions
            self._schedule_running(batch, drafts)
            # Whoever was preempted just now may still get a token from the step in flight: not before that.
            if self.num_preemptions == preemptions:
                self._admit(batch, self._turns.prompts)
        running = self._running
        running.num_scheduled_tokens += batch.num_tokens
        if batch.entries:
            batch.released, running.released = running.released, []
        return batch

    def update(
        self, batch: ScheduledBatch, sampled: AbstractSequence[SampledToken]
    ) -> list[tuple[Sequence, AbstractSequence[SampledToken]]]:
        """Takes in what a step computed: its tokens now lie in the cache, the sampled ones follow.

        Returns the sequences that got tokens, each with them; `finish_reason` is set on those whose last
        it was. What ended meanwhile gets nothing.

        Raises:
            ValueError: As `ScheduledBatch.share_out`.
        """
        running, finished = SequenceStatus.RUNNING, SequenceStatus.FINISHED
        updates: list[tuple[Sequence, AbstractSequence[SampledToken]]] = []
        any_finished = False
        batch.share_out(sampled)
        steps = zip(batch.sequences, batch.entries, batch.shares, strict=True)
        for sequence, entry, tokens in steps:
            status = sequence.status
            if status is finished:
                continue  # it ended while the step ran
            if status is running:  # else it was preempted while the step ran: its token counts
                end = sequence.num_computed_tokens = entry.start + len(entry.token_ids)
                if entry.num_drafts:
                    end = self._running.take_back(sequence, 1 + entry.num_drafts - len(tokens))
                if end >= sequence.settles_at:
                    self._running.upkeep.settle(sequence)
                group = sequence.group
                if group is not None and group.parked and end >= sequence.num_prompt_tokens:
                    for sibling in group.unpark():
                        self._waiting.push(sibling)
            if not tokens:
                continue
            updates.append((sequence, tokens))
            if take_tokens(sequence, tokens):
                self._finish(sequence)
                any_finished = True
        if any_finished:
            self._running.drop_ended()
        return updates

    def restore_released(self, batch: ScheduledBatch) -> None:
        """The executor never took this batch: the next one tells again what was released."""
        self._running.released = batch.released + self._running.released

    def check_integrity(self) -> None:
        """Raises `RuntimeError` unless blocks, tables and counts agree; see `BlockManager`."""
        self._running.check_integrity()

    def _schedule_running(
        self, batch: ScheduledBatch, drafts: Mapping[int, AbstractSequence[int]]
    ) -> None:
        """Oldest first, so that whoever is preempted for blocks has no share in this step yet."""
        block_size = self._blocks.block_size
        sequences, entries = batch.sequences, batch.entries
        decodes_ahead = self._running.num_decoding
        for sequence in self._running:  # preemption shortens it from its end
            if sequence.is_prefilling:
                if not self._schedule_chunk(batch, sequence, self._budget(batch) - decodes_ahead):
                    break
                continue
            decodes_ahead -= 1
            start = sequence.num_scheduled_tokens
            if start == sequence.max_fed_tokens:
                continue  # the step in flight makes its last token
            outputs = sequence.output_token_ids
            index = start - sequence.num_prompt_tokens
            is_pending = index >= len(outputs)
            if is_pending and sequence.waits_for_token:
                continue
            table = sequence.block_table
            guesses: AbstractSequence[int] = ()
            if drafts and sequence.sequence_id in drafts:
                budget = self._budget(batch)
                room = room_for_drafts(sequence, self._blocks, budget, decodes_ahead)
                guesses = drafts[sequence.sequence_id][:room]
            end = start + 1 + len(guesses)
            if end > len(table) * block_size and not self._running.grow(sequence, end):
                break
            sequence.num_scheduled_tokens = end
            sequences.append(sequence)
            entries.append(
                ScheduledSequence(
                    sequence.sequence_id,
                    _PENDING if is_pending else (outputs[index], *guesses),
                    start,
                    table,
                    sequence.sampling,
                    None,
                    len(guesses),
                    sequence.adapter_id,
                )
            )
            batch.num_tokens += end - start

    def _schedule_chunk(self, batch: ScheduledBatch, sequence: Sequence, budget: int) -> bool:
        """As much of the sequence's known tokens as `budget` allows; False when it was preempted itself."""
        wanted = sequence.num_tokens - sequence.num_scheduled_tokens
        count = self._turns.prompts.take(sequence.tenant, wanted, budget)
        if count <= 0:
            return True  # it waits while the decodes behind it take the rest of the budget
        return self._running.add_chunk(batch, sequence, count)

    def _admit(self, batch: ScheduledBatch, prompts: PromptShares) -> None:
        """Starts waiting sequences in order, while all their tokens find room beside the running ones."""
        running, upkeep = self._running, self._running.upkeep
        held: list[Sequence] = []  # until the block that they begin with is computed
        num_reserved = 0  # blocks, for those
        passed: list[Sequence] = []  # until an adapter that runs leaves a seat
        while (
            self._budget(batch) > 0
            and len(running) + len(held) < self._config.max_num_seqs
            and (sequence := self._waiting.head()) is not None
        ):
            is_too_long = sequence.num_tokens > self._budget(batch)
            if (self._config.runs_whole_prompts and is_too_long) or sequence in self._turns.yielded:
                break
            if not running.seats.has_one_for(sequence.adapter_id, is_behind=bool(passed)):
                if len(passed) == _MOST_PASSED:
                    break
                self._waiting.pop(sequence)
                passed.append(sequence)
                continue
            start = upkeep.find_start(sequence)
            spare = num_reserved + (self._watermark_blocks if len(running) else 0)
            needed = upkeep.num_blocks_needed(sequence, start)
            if not self._blocks.can_start(needed, () if start is None else start.shared, spare):
                break
            if start is None:
                self._waiting.pop(sequence)
                held.append(sequence)
                num_reserved += needed
                continue
            wanted = sequence.num_tokens - start.num_tokens
            # With held ones its next chunks would take the steps of those that it passed.
            is_whole = bool(held)
            count = prompts.take(sequence.tenant, wanted, self._budget(batch), whole=is_whole)
            if not count:
                break
            self._waiting.pop(sequence)
            self._turns.shares.begin(sequence)
            running.begin(batch, sequence, start, count)
        for sequence in (*held, *passed):
            self._waiting.push(sequence)

    def _budget(self, batch: ScheduledBatch) -> int:
        return self._config.max_num_batched_tokens - batch.num_tokens

    def _finish(self, sequence: Sequence) -> None:
        """The caller sets the reason, and calls `drop_ended` when it is through."""
        self._running.release(sequence, SequenceStatus.FINISHED)
        del self._alive[sequence.sequence_id]
        self._turns.shares.leave(sequence)
        if sequence.group is not None and (heir := sequence.group.leave(sequence)) is not None:
            self._waiting.push(heir)
