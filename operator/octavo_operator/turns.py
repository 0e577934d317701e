"""Rollout turns: how many models an upgrade of the operator starts anew at once. Pure.

A new runtime image is another template for every model, and a cluster that starts all of them anew at once
pulls an image and loads a model on every node, with no room for the pods in between. So models take turns:
those that wait keep their Deployment paused, with the new template in it, and serve and scale meanwhile.

Who changes a spec has the rollout at once. Whether a spec or an upgrade is behind a new revision shows in
this process's memory: the installation is the same as long as it runs, so only what it sees for the first
time can be an upgrade's doing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from octavo_operator.manifest import ObjectKey


@dataclass(frozen=True, slots=True)
class Change:
    """What a pass is about to do to the pods of one object."""

    wanted: str
    """The revision that they are to have."""
    live: str | None
    """The one that the live workload gives them; None without one."""
    is_paused: bool
    """Whether the live workload makes none of it yet."""
    has_others: bool
    """Whether replicas of another revision than `wanted` exist."""


class Turns:
    """Who may go on. With a limit of 0 everybody may.

    Args:
        wake: Is called with a key that waited, once there may be a turn for it.
    """

    def __init__(self, limit: int, wake: Callable[[ObjectKey], None]) -> None:
        self._limit = limit
        self._wake = wake
        self._running: set[ObjectKey] = set()
        self._waiting: dict[ObjectKey, None] = {}
        self._seen: dict[ObjectKey, str] = {}

    def seed(self, keys: Iterable[ObjectKey]) -> None:
        """Rollouts that went on before this process began."""
        self._running.update(keys)

    def must_wait(self, key: ObjectKey, change: Change) -> bool:
        """Whether the pods are to stay as they are for now. One that need not has a turn from here on, where
        it takes one, until `tell` ends it."""
        is_edited = self._seen.setdefault(key, change.wanted) != change.wanted
        is_on_its_way = change.live == change.wanted and not change.is_paused
        if is_on_its_way:  # not before: who could not write a change has it still to do
            self._seen[key] = change.wanted
        if not self._limit or not change.has_others or is_edited or is_on_its_way:
            self._waiting.pop(key, None)
            return False
        if key not in self._running and len(self._running) >= self._limit:
            self._waiting[key] = None
            return True
        self._waiting.pop(key, None)
        self._running.add(key)
        return False

    def tell(self, key: ObjectKey, *, is_rolling: bool) -> None:
        """What came of the pass: a rollout that is over, or given up, leaves its turn to the next."""
        if not is_rolling and key in self._running:
            self._running.discard(key)
            for waiting in list(self._waiting)[: max(0, self._limit - len(self._running))]:
                self._wake(waiting)

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._waiting.pop(key, None)
        self._seen.pop(key, None)
        self.tell(key, is_rolling=False)

    def why(self, change: Change) -> str:
        """What is said of an object that waits. No count that changes while it does."""
        return (
            f"revision {change.wanted} waits until fewer than {self._limit} rollouts of the operator's "
            "upgrade go on; the pods stay as they are"
        )
