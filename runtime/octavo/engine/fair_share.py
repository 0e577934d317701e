"""Fair share between tenants: whose turn it is, and who makes room for whom.

Start-time fair queueing (Goyal et al. 1996) with tokens as the cost, as virtual token counters have it (Sheng
et al. 2024): a request's *turn* is the virtual time at which its tenant's earlier ones would have been served
if all tenants were served at once. Somebody who was quiet gets a turn now, not behind five hundred prompts of
another. Turns of one tenant grow with arrival, so that a server of one tenant is first come, first served.

Seats and blocks are shared as well: who holds more than an equal part of them gives way to a tenant that
holds less (`victim`). Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass, field

from octavo.engine.requests.sequence import Sequence

_MANY_TENANTS = 4096
_LATELY = 2**20
"""Tokens of turns."""


@dataclass(frozen=True, slots=True)
class Room:
    """What sequences share: places in a step, and blocks of the cache."""

    num_seqs: int
    num_blocks: int


class FairShare:
    """The tenants of all sequences that are alive."""

    def __init__(self) -> None:
        self._now = 0
        self._ends: dict[str, int] = {}
        self._alive: Counter[str] = Counter()
        self._latest: str | None = None
        self._changed_at = -_LATELY

    @property
    def has_several_lately(self) -> bool:
        """More than one has come, within so many tokens: another may come again while a step runs, and waits
        until it has ended."""
        return self._now - self._changed_at < _LATELY

    @property
    def has_several(self) -> bool:
        """Else there is nothing to share."""
        return len(self._alive) > 1

    def enter(self, sequence: Sequence) -> None:
        """Gives a new sequence its turn; the completions of one request have one turn, for one prompt."""
        tenant, group = sequence.tenant, sequence.group
        self._alive[tenant] += 1
        if tenant != self._latest:
            if self._latest is not None:
                self._changed_at = self._now
            self._latest = tenant
        if group is not None and group.members:
            sequence.turn = group.members[0].turn
            return
        sequence.turn = max(self._now, self._ends.get(tenant, 0))
        self._ends[tenant] = sequence.turn + sequence.num_prompt_tokens

    def begin(self, sequence: Sequence) -> None:
        """It is served now: nobody who comes later has an earlier turn."""
        self._now = max(self._now, sequence.turn)

    def leave(self, sequence: Sequence) -> None:
        """What it has made counts for the turns of its tenant's next ones."""
        tenant = sequence.tenant
        self._alive[tenant] -= 1
        if not self._alive[tenant]:
            del self._alive[tenant]
        self._ends[tenant] = self._ends.get(tenant, 0) + len(sequence.output_token_ids)
        if len(self._ends) > _MANY_TENANTS:  # those whose end is past are as if they were new
            self._ends = {name: end for name, end in self._ends.items() if end > self._now}

    def favoured(
        self, heads: AbstractSequence[Sequence], running: AbstractSequence[Sequence], room: Room
    ) -> Sequence:
        """Who of `heads`, the first one of each tenant that waits, starts next: by turn, but those that
        already hold their part behind those that do not."""
        held = self._held(running, room)
        best = min(each.priority for each in heads)
        first = [each for each in heads if each.priority == best]
        return min(first, key=lambda each: (held.is_full(each.tenant), each.order))

    def victim(
        self, head: Sequence, num_needed: int, running: AbstractSequence[Sequence], room: Room
    ) -> Sequence | None:
        """Who of `running` (in their order) should make room so that `head` can start; None: nobody.

        The last one of a tenant that holds more than its equal part of what `head` lacks, if `head`'s own
        tenant stays within its part, and never one of a better priority, nor the first of all, which
        always gets on.

        Args:
            num_needed: Blocks that `head` needs.
        """
        held, mine = self._held(running, room), head.tenant
        if held.is_full(mine) or held.blocks[mine] + num_needed > held.part.num_blocks:
            return None
        lacks_seat = len(running) >= room.num_seqs
        for each in reversed(running[1:]):
            name = each.tenant
            if name == mine or each.priority < head.priority:
                continue
            is_over = held.seats[name] > held.part.num_seqs
            if is_over if lacks_seat else held.blocks[name] > held.part.num_blocks:
                return each
        return None

    def _held(self, running: AbstractSequence[Sequence], room: Room) -> _Held:
        num = max(1, len(self._alive))
        held = _Held(Room(max(1, room.num_seqs // num), room.num_blocks // num))
        for each in running:
            held.seats[each.tenant] += 1
            held.blocks[each.tenant] += len(each.block_table)
        return held


@dataclass(slots=True)
class _Held:
    """What the tenants hold, and the equal part of each."""

    part: Room
    seats: Counter[str] = field(default_factory=Counter)
    blocks: Counter[str] = field(default_factory=Counter)

    def is_full(self, tenant: str) -> bool:
        return (
            self.seats[tenant] >= self.part.num_seqs or self.blocks[tenant] >= self.part.num_blocks
        )


class PromptShares:
    """How many tokens of prompts each tenant may have in one step: of its budget an equal part for each that
    has a prompt to compute, so that a long one leaves room for another tenant's in every step.

    Args:
        long: Of prompts that want more than this, of all together; None: as of others.
        only: The one that has them all; None: whoever comes.
        slowed: Who has no more than `short` of them, so that the step is soon over.
    """

    def __init__(
        self,
        num_tenants: int,
        budget: int,
        *,
        long: int | None = None,
        only: str | None = None,
        slowed: str | None = None,
        short: int = 1,
    ) -> None:
        self._most = max(1, budget // max(1, num_tenants))
        self._is_long_above = self._long_left = budget if long is None else long
        self._only = only
        self._slowed = slowed
        self._short = min(short, self._most)
        self._used: dict[str, int] = {}

    def take(self, tenant: str, num_tokens: int, room: int, *, whole: bool = False) -> int:
        """As many of the `num_tokens` that a prompt wants as are left for it, and the step has room for; of a
        `whole` one all or none."""
        if self._only is not None and tenant != self._only:
            return 0
        is_long = num_tokens > self._is_long_above
        most = self._short if tenant == self._slowed else self._most
        used = self._used.get(tenant, 0)
        left = min(most - used, room)
        if is_long:
            left = min(left, self._long_left)
        count = max(0, min(num_tokens, left))
        if whole and count < num_tokens:
            return 0
        self._used[tenant] = used + count
        if is_long:
            self._long_left -= count
        return count
