"""Failures. Passes over an object that fail again and again, and what its status says of that. Pure.

A pass ends with the status, so one that does not come to its end leaves the status as it was, true or not,
and only the log knew. What fails for a fault of ours fails again, so the second time is told; what the API
server fails at, or somebody's webhook behind it, most often passes by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from octavo_operator.manifest import ObjectKey

PATIENCE_SECONDS = 20.0
"""How long the API server may fail before it is worth a word: it, or a webhook, starts anew meanwhile."""


@dataclass(slots=True)
class _Row:
    """Failures in a row."""

    since: float
    count: int = 0


@dataclass(slots=True)
class Failures:
    """Those of every object; `now` is seconds on any steady clock."""

    _rows: dict[ObjectKey, _Row] = field(default_factory=dict)

    def count(self, key: ObjectKey, now: float, *, may_pass: bool) -> bool:
        """One more. Whether to tell of it.

        Args:
            may_pass: Whether it is none of our own faults.
        """
        row = self._rows.setdefault(key, _Row(now))
        row.count += 1
        return self.is_lasting(key, now) if may_pass else row.count > 1

    def is_lasting(self, key: ObjectKey, now: float) -> bool:
        """Whether passes have failed for longer than what passes by itself takes."""
        row = self._rows.get(key)
        return row is not None and now - row.since >= PATIENCE_SECONDS

    def forget(self, key: ObjectKey) -> None:
        """A pass came to its end, or the object is gone."""
        self._rows.pop(key, None)
