"""Proposals: guesses of a sequence's next tokens, and who makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from octavo.engine.requests.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Proposal:
    """Guesses of one sequence's next tokens.

    Args:
        token_ids: At least one. `PENDING_TOKEN`s are filled in by the executor, whose model proposes.
        kind: Proposals of one kind come true about as often as each other: a small number.
    """

    token_ids: list[int]
    kind: int = 0


class Proposer(Protocol):
    """Knows every sequence that it was asked about until it is told to forget it.

    Attributes:
        num_kinds: `Proposal.kind` lies below it.
        is_free: To propose costs next to nothing, so that it may be asked for what is only compared with what
            came.
    """

    num_kinds: int
    is_free: bool

    def propose(self, sequence: Sequence) -> Proposal | None:
        """At most as many as the user allows; None where it has no guess."""
        ...

    def forget(self, sequence_id: int) -> None: ...
