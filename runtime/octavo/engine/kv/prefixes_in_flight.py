"""Prefixes that are being computed right now, so that nobody computes one a second time.

A block enters the prefix cache when the step that fills it is done. Requests that begin alike and arrive
together would all miss it: eight times one system prompt is eight times its work. Whoever computes a prompt
therefore announces the next block that it will register, and a younger request whose first missing block
has this name is held back until the block is there. Names chain over all that comes before, so one name
speaks for the whole prefix.
"""

from __future__ import annotations

from octavo.engine.requests.sequence import Sequence


class PrefixesInFlight:
    """The next block of every running sequence that still has blocks of its prompt to register."""

    __slots__ = ("_owners",)

    def __init__(self) -> None:
        self._owners: dict[bytes, Sequence] = {}

    def announce(self, sequence: Sequence, name: bytes) -> None:
        """Replaces what the sequence announced before. Of two with the same block the first one counts."""
        self.withdraw(sequence)
        if name not in self._owners:
            self._owners[name] = sequence
            sequence.announced_block = name

    def withdraw(self, sequence: Sequence) -> None:
        """The sequence does not run any more, or has registered all of its prompt."""
        if sequence.announced_block is not None:
            del self._owners[sequence.announced_block]
            sequence.announced_block = None

    def will_bring(self, name: bytes | None, sequence: Sequence) -> bool:
        """Whether the block is worth waiting for: one computes it that comes before `sequence` anyway.

        Only for those: they get their share of every step before `sequence` would, so the wait ends. Behind
        a sequence of lower priority it might not.
        """
        owner = None if name is None else self._owners.get(name)
        return owner is not None and owner.order < sequence.order

    def check_integrity(self, running: list[Sequence]) -> None:
        """Raises `RuntimeError` if someone announces a block who does not run."""
        announced = {s.announced_block: s for s in running if s.announced_block is not None}
        if announced != self._owners:
            raise RuntimeError(
                f"Sequences {sorted(s.sequence_id for s in self._owners.values())} are known to compute "
                f"a prefix, {sorted(s.sequence_id for s in announced.values())} do."
            )
