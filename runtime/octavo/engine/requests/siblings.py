"""Siblings. The n completions of one request: the first one computes the prompt, the others wait and share
it.

Parallel sampling stores a shared prompt once (PagedAttention, Kwon et al. 2023, section 4.4). Until the
prompt is computed the others are *parked*: in no queue, without blocks. Then each starts with the full
blocks of a completion that has it and a copy of the last, partial one, and computes only the prompt's last
token itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octavo.engine.requests.sequence import Sequence


@dataclass(slots=True, eq=False)
class SiblingGroup:
    """Mutable; the scheduler alone changes it.

    Args:
        leader: Computes the prompt for all.
        parked: Wait for it, in the order of their index.
        members: All completions that have not ended.
    """

    leader: Sequence | None = None
    parked: list[Sequence] = field(default_factory=list)
    members: list[Sequence] = field(default_factory=list)

    def join(self, sequence: Sequence) -> bool:
        """Whether the sequence leads, and so may be queued; else it is parked."""
        self.members.append(sequence)
        if self.leader is None:
            self.leader = sequence
            return True
        self.parked.append(sequence)
        return False

    def leave(self, sequence: Sequence) -> Sequence | None:
        """Takes out a sequence that ended. Returns the one that leads in its place and is to be queued."""
        self.members.remove(sequence)
        if sequence is self.leader:
            self.leader = self.parked.pop(0) if self.parked else None
            return self.leader
        if sequence in self.parked:
            self.parked.remove(sequence)
        return None

    def unpark(self) -> list[Sequence]:
        """Empties `parked`: the prompt is computed."""
        parked, self.parked = self.parked, []
        return parked

    def sources(self) -> Iterator[Sequence]:
        """Completions that have computed the whole prompt."""
        for member in self.members:
            if member.num_computed_tokens >= len(member.prompt_token_ids):
                yield member
