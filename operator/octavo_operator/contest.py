"""Contest: somebody else undoes what we do to a child, again and again. Noticed, told and slowed.

A second operator with a Lease of its own, a controller with another opinion, a tool that restores what it
once saw: each undoing brings us back, at once or at its own pace. Whoever it is, what counts is that we had
to do the same again. A few times within a minute, or some more within hours, is a contest: from then on
the child is left alone after every repair, each time twice as long, and what else there is to do goes on.
A Service that was taken off its pods is spared once in each of these times: nobody could reach them.
It is told until nothing had to be repaired for longer than the other one takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from octavo_operator.api.conditions import Reason
from octavo_operator.drift import drifted, is_of_an_apply
from octavo_operator.findings import Finding
from octavo_operator.manifest import FIELD_MANAGER, ChildKey, Manifest, ObjectKey, writers
from octavo_operator.names import HASH_ANNOTATION
from octavo_operator.plan import Action, ActionType
from octavo_operator.render.network_policy import ops_namespaces
from octavo_operator.render.service import KEY as SERVICE
from octavo_operator.render.service import off_the_network

WINDOW_SECONDS = 60.0
MOST_REPAIRS = 5
"""Within the window. One repair of what a user did is one."""
LONG_WINDOW_SECONDS = 6 * 3600.0
MOST_REPAIRS_OF_LONG = 8
"""Within the long window: tools that restore a state look every few minutes."""
LONGEST_HOLD_SECONDS = 900.0
LONGEST_QUIET_SECONDS = 1800.0
_SLOWED = (
    "repairs come less often now, after a minute at first and at least every "
    f"{LONGEST_HOLD_SECONDS / 60:.0f} minutes"
)
_RIVAL = "another Octavo operator"
_OF_RIVALS = (
    "Give each release its own `watchNamespaces`, or uninstall one: `helm list -A` has the releases"
)
REMEDY = (
    f"{_SLOWED}. Is there another operator for this namespace, or another "
    f"controller? `metadata.managedFields` names those that do not write as {FIELD_MANAGER}"
)
"""When it is repaired, and what to do."""


@dataclass(slots=True)
class _Child:
    """What is remembered of one child; times are in seconds on a steady clock."""

    content: str
    """Hash of what was applied last; empty when it was deleted."""
    repairs: list[float] = field(default_factory=list)
    """When the same was done again, within the long window."""
    is_undone: bool = False
    """Whether the last repair is known to be in vain."""
    reaction: float = 0.0
    """The longest that the other one took to undo a repair."""
    hold: float = 0.0
    """How long the child is left alone after a repair; 0 without a contest."""
    held_until: float = -math.inf
    was_spared: bool = False
    """Whether the last repair did not wait for that."""
    told_until: float = -math.inf
    rival: str = ""
    """The other one, where it is an Octavo operator, too."""

    def undone(self, now: float) -> None:
        """Something has to be done again."""
        if self.repairs and not self.is_undone:
            self.is_undone = True
            self.reaction = max(self.reaction, now - self.repairs[-1])
        self._tell(now)

    def repaired(self, now: float) -> None:
        """It was done again."""
        self.is_undone = False
        self.was_spared = now < self.held_until
        self.repairs = [at for at in self.repairs if now - at < LONG_WINDOW_SECONDS] + [now]
        lately = sum(now - at < WINDOW_SECONDS for at in self.repairs)
        if self.hold:
            self.hold = min(2 * self.hold, LONGEST_HOLD_SECONDS)
        elif lately >= MOST_REPAIRS or len(self.repairs) >= MOST_REPAIRS_OF_LONG:
            self.hold = WINDOW_SECONDS
        self.held_until = now + self.hold
        self._tell(now)

    def _tell(self, now: float) -> None:
        if self.hold:
            quiet = min(max(WINDOW_SECONDS, 2 * self.reaction), LONGEST_QUIET_SECONDS)
            self.told_until = max(self.told_until, now + quiet)

    def end(self) -> None:
        """It was quiet for long enough."""
        self.repairs, self.reaction, self.hold, self.rival = [], 0.0, 0.0, ""


@dataclass(slots=True)
class Contests:
    """What was done lately, by child of each object; `now` is seconds on any steady clock."""

    _children: dict[tuple[ObjectKey, ChildKey], _Child] = field(default_factory=dict)

    def hold(
        self, owner: ObjectKey, actions: Sequence[Action], now: float
    ) -> tuple[list[Action], Finding | None, float | None]:
        """The actions without those that only go on with a contest; what to say about it, whoever has
        the upper hand just now; and the seconds after which to look again."""
        going: list[Action] = []
        contested: list[Action] = []
        waits: list[float] = []
        rivals: set[str] = set()
        for action in actions:
            child = self._children.get((owner, action.key))
            if child is None:
                going.append(action)
                continue
            is_again = _is_repair(action, child)
            if is_again:
                child.undone(now)
                child.rival = _rival(action, child) or child.rival
            is_held = is_again and now < child.held_until and _content(action) == child.content
            is_held = is_held and (child.was_spared or not _is_off_its_pods(action))
            going.append(action.kept(REMEDY) if is_held else action)
            if now < child.told_until:
                contested.append(action)
                rivals |= {child.rival} - {""}
                waits.append((child.held_until if is_held else child.told_until) - now)
            elif child.hold:
                child.end()
        return going, _told(contested, rivals) if contested else None, min(waits, default=None)

    def count(
        self,
        owner: ObjectKey,
        actions: Sequence[Action],
        answers: Mapping[ChildKey, Manifest | None],
        now: float,
    ) -> None:
        """Remembers what was carried out. An apply whose answer is what stood there is no repair: an
        admission webhook has the last word on a field."""
        for action in actions:
            if action.type not in (ActionType.APPLY, ActionType.DELETE):
                continue
            if action.key not in answers or _is_same(answers[action.key], action.live):
                continue
            child = self._children.setdefault((owner, action.key), _Child("never applied"))
            if _is_repair(action, child):
                child.repaired(now)
            child.content = _content(action)

    def forget(self, owner: ObjectKey) -> None:
        """The object is gone."""
        for key in [key for key in self._children if key[0] == owner]:
            del self._children[key]


def _is_repair(action: Action, child: _Child) -> bool:
    """Whether it does once more what was done before, and not what is wanted anew."""
    if action.type not in (ActionType.APPLY, ActionType.DELETE):
        return False
    return action.undoes or _content(action) == child.content


def _is_off_its_pods(action: Action) -> bool:
    """Whether it is a Service that leads to our pods no more."""
    if action.key != SERVICE or action.desired is None:
        return False
    if action.live is not None and off_the_network(action.live):
        return True
    wanted, live = action.desired["spec"], (action.live or {}).get("spec", {})
    found = drifted({key: wanted[key] for key in ("selector", "ports")}, live)
    return next(found, None) is not None


def _is_same(answer: Manifest | None, live: Manifest | None) -> bool:
    if answer is None or live is None:
        return answer is live
    return bool(answer["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"])


def _content(action: Action) -> str:
    if action.desired is None:
        return ""
    return str(action.desired["metadata"]["annotations"][HASH_ANNOTATION])


def _rival(action: Action, child: _Child) -> str:
    """Who else renders it: in its place stands what an operator of our name applied, and we did not. Who
    restores what it once saw takes the hash over under a name of its own."""
    if action.live is None or action.desired is None or _content(action) != child.content:
        return ""
    metadata = action.live["metadata"]
    if metadata.get("annotations", {}).get(HASH_ANNOTATION) == child.content:
        return ""
    entries = filter(is_of_an_apply, metadata.get("managedFields", ()))
    written = [each.get("fieldsV1", {}).get("f:metadata", {}) for each in entries]
    if not any(f"f:{HASH_ANNOTATION}" in each.get("f:annotations", {}) for each in written):
        return ""
    names = sorted(ops_namespaces(action.live) - ops_namespaces(action.desired))
    return f"{_RIVAL}, which lets namespace {' and '.join(names)} in" if names else _RIVAL


def _told(contested: Sequence[Action], rivals: set[str]) -> Finding:
    names = ", ".join(f"{each.key.kind.kind} {each.where.name}" for each in contested)
    others = sorted({name for each in contested if each.live for name in writers(each.live)})
    by = f" (others that wrote: {', '.join(others)})" if others else ""
    remedy = REMEDY
    if rivals:
        # Whoever tells its namespace says more.
        by = f" by {max(rivals, key=len)}{by}"
        remedy = f"{_SLOWED}. {_OF_RIVALS}"
    return Finding(
        Reason.CONTESTED,
        f"{names}: repaired again and again, and undone each time{by}; {remedy}",
    )
