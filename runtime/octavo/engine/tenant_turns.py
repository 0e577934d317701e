"""Tenant turns: what a step does for fairness before anybody is scheduled in it.

`FairShare` says whose turn it is. Here that becomes true: its tenant gets room, one that had nothing also a
step of its own, and the step's tokens for prompts are divided. Pure.
"""

from __future__ import annotations

from octavo.engine.fair_share import FairShare, PromptShares, Room
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.requests.sequence import Sequence
from octavo.engine.running_sequences import RunningSequences
from octavo.engine.step_limits import SchedulerConfig
from octavo.engine.waiting_queue import WaitingQueue


class TenantTurns:
    """Of one scheduler: to be begun anew in each step.

    Args:
        watermark_blocks: Left free beside whoever starts.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        blocks: BlockManager,
        running: RunningSequences,
        waiting: WaitingQueue,
        *,
        watermark_blocks: int,
    ) -> None:
        self._config = config
        self._blocks = blocks
        self._running = running
        self._waiting = waiting
        self._watermark_blocks = watermark_blocks
        self._room = Room(config.max_num_seqs, blocks.num_blocks)
        self._had_guest = False
        self.shares = FairShare()
        self.prompts = PromptShares(1, config.max_num_batched_tokens)
        """Of this step."""
        self.yielded: set[Sequence] = set()
        """Made room in this step: they may still get a token from the one in flight."""

    def begin_step(self) -> str | None:
        """Makes room for the tenant whose turn it is, and divides the step's budget for prompts.

        Returns a tenant that has nothing running while others have prompts to compute: it begins in a step
        of its own, which is over as soon as if nobody else were there. Never twice in turn: others go on.
        """
        guest: str | None = None
        tenants: set[str] = set()
        self.yielded.clear()
        heads = [] if self._config.runs_whole_prompts else self._waiting.heads()
        if self.shares.has_several:
            if self._running.num_prefilling:
                tenants = {each.tenant for each in self._running if each.is_prefilling}
            if heads:
                head = self._bring_forward(heads)
                tenants.add(head.tenant)
                self._yield_room(head)
                is_crowded = len(tenants) > 1 or len(heads) > 1
                if is_crowded and not self._had_guest and self._may_be_guest(head):
                    guest = head.tenant
        self.prompts = self._divide_prompts(len(tenants), heads)
        self._had_guest = guest is not None
        return guest

    def _bring_forward(self, heads: list[Sequence]) -> Sequence:
        """The one that starts next becomes the first one that waits."""
        head = self.shares.favoured(heads, self._running.in_order, self._room)
        first = min(heads, key=lambda each: each.order)
        if head is not first:
            self._waiting.bring_forward(head, first.turn - 1)
        return head

    def _divide_prompts(self, num_tenants: int, heads: list[Sequence]) -> PromptShares:
        # Whoever waits behind others waits for what they compute: then steps are long.
        is_alone = len(heads) == 1 and self.shares.has_several_lately
        return PromptShares(
            num_tenants,
            self._config.max_num_batched_tokens,
            long=self._config.chunk_budget(self._running.num_decoding),
            slowed=heads[0].tenant if is_alone else None,
            short=self._config.short_step_tokens,
        )

    def _may_be_guest(self, head: Sequence) -> bool:
        return len(self._running) > 0 and all(
            each.tenant != head.tenant and each.priority >= head.priority for each in self._running
        )

    def _yield_room(self, head: Sequence) -> None:
        """Preempts until `head` can start, or nobody has more than its part."""
        running, upkeep = self._running, self._running.upkeep
        if not running.seats.has_one_for(head.adapter_id):
            return  # room would not let it start
        while len(running) and (start := upkeep.find_start(head)) is not None:
            needed = upkeep.num_blocks_needed(head, start)
            has_seat = len(running) < self._config.max_num_seqs
            if has_seat and self._blocks.can_start(needed, start.shared, self._watermark_blocks):
                return
            victim = self.shares.victim(head, needed, running.in_order, self._room)
            if victim is None:
                return
            victim.turn = head.turn + 1  # behind the one that it makes room for
            running.preempt(victim)
            self.yielded.add(victim)
