"""Contest: somebody else writes a child again as often as we do. Noticed, told and slowed.

A second operator with a Lease of its own, or a controller with another opinion, undoes every apply, and
each undoing is an event that brings us back at once. Applies of one child are counted while what is to
be applied stays the same; beyond a few in a minute the child is left alone until the minute is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from octavo_operator.api.conditions import Reason
from octavo_operator.manifest import ChildKey, Manifest, ObjectKey
from octavo_operator.names import HASH_ANNOTATION
from octavo_operator.plan import Action, ActionType
from octavo_operator.pods import Finding

WINDOW_SECONDS = 60.0
MOST_APPLIES = 5
"""Of the same content within the window. One repair of what a user did is one."""


@dataclass(slots=True)
class Contests:
    """What was applied lately, by child of each object; `now` is seconds on any steady clock."""

    _applied: dict[tuple[ObjectKey, ChildKey], tuple[str, list[float]]] = field(
        default_factory=dict
    )

    def hold(
        self, owner: ObjectKey, actions: Sequence[Action], now: float
    ) -> tuple[list[Action], Finding | None, float | None]:
        """The actions without those that only go on with a contest; what to say about it, whoever has
        the upper hand just now; and the seconds after which to look again."""
        going: list[Action] = []
        contested: list[Action] = []
        waits: list[float] = []
        for action in actions:
            content, times = self._lately(owner, action, now)
            if len(times) >= MOST_APPLIES:
                contested.append(action)
                waits.append(times[0] + WINDOW_SECONDS - now)
                going.append(action.kept() if _writes_over(action) else action)
                continue
            going.append(action)
            if _writes_over(action):
                self._applied[owner, action.key] = (content, [*times, now])
        return going, _told(contested) if contested else None, min(waits, default=None)

    def forget(self, owner: ObjectKey) -> None:
        """The object is gone."""
        for key in [key for key in self._applied if key[0] == owner]:
            del self._applied[key]

    def _lately(self, owner: ObjectKey, action: Action, now: float) -> tuple[str, list[float]]:
        """What is to be applied, and when it was within the window."""
        content = "" if action.desired is None else _hash(action.desired)
        before, times = self._applied.get((owner, action.key), (content, []))
        if before != content:
            return content, []
        return content, [at for at in times if now - at < WINDOW_SECONDS]


def _writes_over(action: Action) -> bool:
    return action.type is ActionType.APPLY and action.live is not None


def _told(contested: Sequence[Action]) -> Finding:
    names = ", ".join(f"{each.key.kind.kind} {each.where.name}" for each in contested)
    return Finding(
        Reason.CONTESTED,
        f"{names}: applied {MOST_APPLIES} times within {WINDOW_SECONDS:.0f} s and changed each time; is "
        "there another operator for this namespace, or another controller? "
        "(`metadata.managedFields` names the writers)",
    )


def _hash(manifest: Manifest) -> str:
    return str(manifest["metadata"]["annotations"][HASH_ANNOTATION])
