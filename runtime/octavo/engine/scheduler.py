"""Scheduler. Decides which tokens of which sequences run in the next step.

Continuous batching (Orca, Yu et al. 2022) over a paged KV cache (PagedAttention, Kwon et al. 2023) with
chunked prefill (Sarathi-Serve, Agrawal et al. 2024): one batch mixes decodes and prompt chunks. Pure: no
clock, no I/O, no randomness, so that the same calls always give the same batches.
"""

from __future__ import annotations

import sys
from bisect import insort
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as AbstractSequence
from operator import attrgetter

from octavo.engine.adapter_seats import AdapterSeats
from octavo.engine.fair_share import FairShare, PromptShares, Room
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.kv.block_upkeep import BlockUpkeep
from octavo.engine.kv.prefix_matching import Start
from octavo.engine.requests.end_conditions import take_tokens
from octavo.engine.requests.sequence import Sequence, SequenceStatus
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.step_limits import SchedulerConfig, room_for_drafts
from octavo.engine.waiting_queue import WaitingQueue
from octavo.outputs import FinishReason
from octavo.sampling.state import SampledToken
from octavo.worker.batch import PENDING_TOKEN, ScheduledSequence

_ORDER = attrgetter("order")
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
          but for those that wait while an older one computes their prefix (`PrefixesInFlight`): whoever
          passes them leaves a seat and blocks for each, and computes its whole prompt in that step.
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
        self._running: list[Sequence] = []  # sorted by `order`
        self._waiting = WaitingQueue()
        self._alive: dict[int, Sequence] = {}
        self._released: list[int] = []
        self._upkeep = BlockUpkeep(
            block_manager,
            uses_prefix_cache=config.enable_prefix_caching,
            sliding_window=config.sliding_window,
            max_step_tokens=config.max_num_batched_tokens,
        )
        self._shares = FairShare()
        self._room = Room(config.max_num_seqs, block_manager.num_blocks)
        self._prompts = PromptShares(1, config.max_num_batched_tokens)  # of this step
        self._had_guest = False
        self._yielded: set[Sequence] = (
            set()
        )  # in this step: they may still get a token from the one in flight
        self._seats = AdapterSeats(config.max_adapters)
        self._num_prefilling = 0
        self._num_scheduled_tokens = 0  # of all running sequences
        self.num_preemptions = 0

    @property
    def uses_prefix_cache(self) -> bool:
        return self._config.enable_prefix_caching

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def running_adapters(self) -> Mapping[int, int]:
        """How many running sequences have each adapter, by its id."""
        return self._seats.running

    @property
    def num_waiting(self) -> int:  # also completions that wait for their request's prompt
        return len(self._alive) - len(self._running)

    @property
    def num_tokens_held(self) -> int:
        """Slots of held blocks that are filled, or will be by the steps in flight; shared ones count once."""
        return self._num_scheduled_tokens - self._blocks.num_blocks_saved * self._blocks.block_size

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
        self._shares.enter(sequence)
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
        self._drop_ended()
        return ended

    @property
    def num_decoding(self) -> int:
        """Running sequences of which no known token waits to be computed."""
        return len(self._running) - self._num_prefilling

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
        guest = self._share_step()
        self._had_guest = guest is not None
        if guest is not None:
            budget = self._config.max_num_batched_tokens
            shares, self._prompts = self._prompts, PromptShares(1, budget, only=guest)
            self._admit(batch)
            self._prompts = shares
        if not batch.entries:
            preemptions = self.num_preemptions
            self._schedule_running(batch, drafts)
            # Whoever was preempted just now may still get a token from the step in flight: not before that.
            if self.num_preemptions == preemptions:
                self._admit(batch)
        self._num_scheduled_tokens += batch.num_tokens
        if batch.entries:
            batch.released, self._released = self._released, []
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
                    end = self._take_back(sequence, 1 + entry.num_drafts - len(tokens))
                if end >= sequence.settles_at:
                    self._upkeep.settle(sequence)
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
            self._drop_ended()
        return updates

    def restore_released(self, batch: ScheduledBatch) -> None:
        """The executor never took this batch: the next one tells again what was released."""
        self._released = batch.released + self._released

    def check_integrity(self) -> None:
        """Raises `RuntimeError` unless blocks, tables and counts agree; see `BlockManager`."""
        running = self._running
        self._upkeep.check_integrity(running)
        self._seats.check_integrity(s.adapter_id for s in running)
        counts = (
            sum(s.num_scheduled_tokens for s in running),
            sum(s.is_prefilling for s in running),
        )
        if counts != (self._num_scheduled_tokens, self._num_prefilling):
            raise RuntimeError(
                f"Running sequences hold {counts[0]} tokens, {counts[1]} of them prefill; counted were "
                f"{self._num_scheduled_tokens} and {self._num_prefilling}."
            )

    def _schedule_running(
        self, batch: ScheduledBatch, drafts: Mapping[int, AbstractSequence[int]]
    ) -> None:
        """Oldest first, so that whoever is preempted for blocks has no share in this step yet."""
        block_size = self._blocks.block_size
        sequences, entries = batch.sequences, batch.entries
        decodes_ahead = len(self._running) - self._num_prefilling
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
            if end > len(table) * block_size:
                if not self._make_room(sequence, end):
                    break
                self._blocks.allocate(sequence.sequence_id, end)
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

    def _take_back(self, sequence: Sequence, num_rejected: int) -> int:
        """What lies in the slots of drafts that did not come true means nothing. Returns how many tokens are
        computed."""
        sequence.num_scheduled_tokens -= num_rejected
        self._num_scheduled_tokens -= num_rejected
        sequence.num_computed_tokens -= num_rejected
        self._blocks.shrink(sequence.sequence_id, sequence.num_scheduled_tokens)
        return sequence.num_computed_tokens

    def _schedule_chunk(self, batch: ScheduledBatch, sequence: Sequence, budget: int) -> bool:
        """As much of the sequence's known tokens as `budget` allows; False when it was preempted itself."""
        wanted = sequence.num_tokens - sequence.num_scheduled_tokens
        count = self._prompts.take(sequence.tenant, wanted, budget)
        if count <= 0:
            return True  # it waits while the decodes behind it take the rest of the budget
        needed = sequence.num_scheduled_tokens + count
        if not self._make_room(sequence, needed):
            return False
        self._blocks.allocate(sequence.sequence_id, needed)
        batch.add_chunk(sequence, count)
        self._num_prefilling -= not sequence.is_prefilling
        return True

    def _make_room(self, sequence: Sequence, num_tokens: int) -> bool:
        """Preempts from the youngest up until the sequence's table can grow; False when it was its turn."""
        while not self._blocks.can_allocate(sequence.sequence_id, num_tokens):
            victim = self._running.pop()
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, victim: Sequence) -> None:
        """The caller takes it out of `_running`."""
        self._release(victim, SequenceStatus.WAITING)
        self._waiting.push(victim)
        self.num_preemptions += 1

    def _share_step(self) -> str | None:
        """Makes room for the tenant whose turn it is, and divides the step's budget for prompts.

        Returns a tenant that has nothing running while others have prompts to compute: it begins in a step
        of its own, which is over as soon as if nobody else were there. Never twice in turn: others go on.
        """
        guest: str | None = None
        tenants: set[str] = set()
        self._yielded.clear()
        heads = [] if self._config.runs_whole_prompts else self._waiting.heads()
        if self._shares.has_several:
            if self._num_prefilling:
                tenants = {each.tenant for each in self._running if each.is_prefilling}
            if heads:
                head = self._shares.favoured(heads, self._running, self._room)
                if head is not (first := min(heads, key=_ORDER)):
                    self._waiting.bring_forward(head, first.turn - 1)
                tenants.add(head.tenant)
                self._yield_room(head)
                is_crowded = len(tenants) > 1 or len(heads) > 1
                if is_crowded and not self._had_guest and self._may_be_guest(head):
                    guest = head.tenant
        # Whoever waits behind others waits for what they compute: then steps are long.
        is_alone = len(heads) == 1 and self._shares.has_several_lately
        self._prompts = PromptShares(
            len(tenants),
            self._config.max_num_batched_tokens,
            long=self._config.chunk_budget(self.num_decoding),
            slowed=heads[0].tenant if is_alone else None,
            short=self._config.short_step_tokens,
        )
        return guest

    def _may_be_guest(self, head: Sequence) -> bool:
        return bool(self._running) and all(
            each.tenant != head.tenant and each.priority >= head.priority for each in self._running
        )

    def _yield_room(self, head: Sequence) -> None:
        """Preempts until `head` can start, or nobody has more than its part."""
        if not self._seats.has_one_for(head.adapter_id):
            return  # room would not let it start
        while self._running and (start := self._upkeep.find_start(head)) is not None:
            needed = self._upkeep.num_blocks_needed(head, start)
            has_seat = len(self._running) < self._config.max_num_seqs
            if has_seat and self._blocks.can_start(needed, start.shared, self._watermark_blocks):
                return
            victim = self._shares.victim(head, needed, self._running, self._room)
            if victim is None:
                return
            self._running.remove(victim)
            victim.turn = head.turn + 1  # behind the one that it makes room for
            self._preempt(victim)
            self._yielded.add(victim)

    def _admit(self, batch: ScheduledBatch) -> None:
        """Starts waiting sequences in order, while all their tokens find room beside the running ones."""
        held: list[Sequence] = []  # until the block that they begin with is computed
        num_reserved = 0  # blocks, for those
        passed: list[Sequence] = []  # until an adapter that runs leaves a seat
        while (
            self._budget(batch) > 0
            and len(self._running) + len(held) < self._config.max_num_seqs
            and (sequence := self._waiting.head()) is not None
        ):
            is_too_long = sequence.num_tokens > self._budget(batch)
            if (self._config.runs_whole_prompts and is_too_long) or sequence in self._yielded:
                break
            if not self._seats.has_one_for(sequence.adapter_id, is_behind=bool(passed)):
                if len(passed) == _MOST_PASSED:
                    break
                self._waiting.pop(sequence)
                passed.append(sequence)
                continue
            start = self._upkeep.find_start(sequence)
            spare = num_reserved + (self._watermark_blocks if self._running else 0)
            needed = self._upkeep.num_blocks_needed(sequence, start)
            if not self._blocks.can_start(needed, () if start is None else start.shared, spare):
                break
            if start is None:
                self._waiting.pop(sequence)
                held.append(sequence)
                num_reserved += needed
                continue
            wanted = sequence.num_tokens - start.num_tokens
            count = self._prompts.granted(sequence.tenant, wanted, self._budget(batch))
            # With held ones its next chunks would take the steps of those that it passed.
            if not count or (held and wanted > count):
                break
            self._waiting.pop(sequence)
            self._start(batch, sequence, start)
        for sequence in (*held, *passed):
            self._waiting.push(sequence)

    def _start(self, batch: ScheduledBatch, sequence: Sequence, start: Start) -> None:
        wanted = sequence.num_tokens - start.num_tokens
        count = self._prompts.take(sequence.tenant, wanted, self._budget(batch))
        self._shares.begin(sequence)
        self._blocks.start(sequence.sequence_id, start.shared, start.num_skipped)
        self._blocks.allocate(sequence.sequence_id, start.num_tokens + count)
        table = sequence.block_table = self._blocks.block_table(sequence.sequence_id)
        if start.copied is not None:
            batch.block_copies.append((start.copied, table[start.num_skipped + len(start.shared)]))
        self._upkeep.begin(sequence, start)
        if start.source is None and sequence.first_scheduled_time is None:
            sequence.num_cached_tokens = start.num_tokens
        sequence.num_scheduled_tokens = sequence.num_computed_tokens = start.num_tokens
        self._num_scheduled_tokens += start.num_tokens
        sequence.status = SequenceStatus.RUNNING
        self._seats.enter(sequence.adapter_id)
        insort(self._running, sequence, key=_ORDER)
        batch.admitted.append(sequence)
        batch.add_chunk(sequence, count)
        self._num_prefilling += sequence.is_prefilling

    def _budget(self, batch: ScheduledBatch) -> int:
        return self._config.max_num_batched_tokens - batch.num_tokens

    def _finish(self, sequence: Sequence) -> None:
        """The caller sets the reason, and calls `_drop_ended` when it is through."""
        self._release(sequence, SequenceStatus.FINISHED)
        del self._alive[sequence.sequence_id]
        self._shares.leave(sequence)
        if sequence.group is not None and (heir := sequence.group.leave(sequence)) is not None:
            self._waiting.push(heir)

    def _release(self, sequence: Sequence, status: SequenceStatus) -> None:
        """Frees the sequence's blocks. The caller takes it out of `_running`."""
        if sequence.status is SequenceStatus.RUNNING:
            is_sound = sequence.finish_reason is not FinishReason.ERROR
            self._upkeep.end(sequence, is_sound=is_sound)
            self._blocks.free(sequence.sequence_id)
            self._seats.leave(sequence.adapter_id)
            self._released.append(sequence.sequence_id)
            self._num_scheduled_tokens -= sequence.num_scheduled_tokens
            self._num_prefilling -= sequence.is_prefilling
        sequence.num_scheduled_tokens = sequence.num_computed_tokens = 0
        sequence.num_registered_blocks = 0
        sequence.settles_at = sys.maxsize
        sequence.is_prefilling = False
        sequence.block_table = ()
        sequence.status = status

    def _drop_ended(self) -> None:
        finished = SequenceStatus.FINISHED
        self._running = [sequence for sequence in self._running if sequence.status is not finished]
