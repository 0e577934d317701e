"""Contest: somebody else writes a child again as often as we do. Noticed, told and slowed.

A second operator with a Lease of its own, or a controller with another opinion, undoes every apply, and
each undoing is an event that brings us back at once. Applies of one child are counted while what is to
be applied stays the same; beyond a few in a minute the child is left alone until the minute is over. It is
told until nothing had to be written over for a whole minute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
class _Lately:
    """One child's."""

    content: str
    """Hash of what is applied."""
    times: list[float] = field(default_factory=list)
    """When it was, within the window."""
    told_until: float = -math.inf


@dataclass(slots=True)
class Contests:
    """What was applied lately, by child of each object; `now` is seconds on any steady clock."""

    _applied: dict[tuple[ObjectKey, ChildKey], _Lately] = field(default_factory=dict)

    def hold(
        self, owner: ObjectKey, actions: Sequence[Action], now: float
    ) -> tuple[list[Action], Finding | None, float | None]:
        """The actions without those that only go on with a contest; what to say about it, whoever has
        the upper hand just now; and the seconds after which to look again."""
        going: list[Action] = []
        contested: list[Action] = []
        waits: list[float] = []
        for action in actions:
            lately = self._lately(owner, action, now)
            is_held = len(lately.times) >= MOST_APPLIES
            if is_held:
                waits.append(lately.times[0] + WINDOW_SECONDS - now)
            if _writes_over(action) and (is_held or now < lately.told_until):
                lately.told_until = now + WINDOW_SECONDS
            if now < lately.told_until:
                contested.append(action)
                waits.append(lately.told_until - now)
            going.append(action.kept() if is_held and _writes_over(action) else action)
        return going, _told(contested) if contested else None, min(waits, default=None)

    def count(
        self,
        owner: ObjectKey,
        actions: Sequence[Action],
        answers: Mapping[ChildKey, Manifest],
        now: float,
    ) -> None:
        """Remembers which of the actions that were carried out wrote over what stood there. One whose
        answer is what stood there is no contest: an admission webhook has the last word on a field."""
        for action in actions:
            answer = answers.get(action.key)
            if action.live is None or answer is None or not _writes_over(action):
                continue
            if _version(answer) == _version(action.live):
                continue
            lately = self._lately(owner, action, now)
            lately.times.append(now)
            if len(lately.times) >= MOST_APPLIES:
                lately.told_until = now + WINDOW_SECONDS
            self._applied[owner, action.key] = lately

    def forget(self, owner: ObjectKey) -> None:
        """The object is gone."""
        for key in [key for key in self._applied if key[0] == owner]:
            del self._applied[key]

    def _lately(self, owner: ObjectKey, action: Action, now: float) -> _Lately:
        """What is remembered of what is to be applied."""
        content = "" if action.desired is None else _hash(action.desired)
        lately = self._applied.get((owner, action.key))
        if lately is None or lately.content != content:
            return _Lately(content)
        lately.times = [at for at in lately.times if now - at < WINDOW_SECONDS]
        return lately


def _version(manifest: Manifest) -> str:
    return str(manifest["metadata"]["resourceVersion"])


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
