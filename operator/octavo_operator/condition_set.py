"""Condition set: the conditions of one pass over those of the pass before. Pure; the clock is passed in.

`lastTransitionTime` changes only with `status`, so equal observations give equal conditions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from octavo_operator.api.conditions import ConditionStatus, ConditionType, Reason
from octavo_operator.manifest import Manifest

_MESSAGE_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition that changed its status or reason: worth an Event."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str

    is_first: bool
    """Whether the condition was not there before."""

    @property
    def is_warning(self) -> bool:
        """Whether somebody should look at it."""
        match self.type:
            case ConditionType.DEGRADED:
                return self.status is ConditionStatus.TRUE
            case ConditionType.AUTOSCALING:
                return (
                    self.status is ConditionStatus.FALSE
                    and self.reason is not Reason.AUTOSCALING_DISABLED
                )
            case ConditionType.MODEL_AVAILABLE:
                return self.status is ConditionStatus.FALSE
            case _:
                return False

    @property
    def is_news(self) -> bool:
        """Whether it is worth an Event: a condition that begins as it should be is none, and kstatus's say
        nothing that another one does not."""
        if self.type in (ConditionType.RECONCILING, ConditionType.STALLED):
            return False
        return not self.is_first or self.is_warning or self.type is ConditionType.PROGRESSING


@dataclass(slots=True)
class ConditionSet:
    """Collects the conditions of one pass over those of the pass before."""

    generation: int
    now: datetime
    previous: dict[str, dict[str, Any]]
    marked: dict[ConditionType, dict[str, Any]] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)

    def mark_true(self, type_: ConditionType, reason: Reason, message: str = "") -> None:
        self._mark(type_, ConditionStatus.TRUE, reason, message)

    def mark_false(self, type_: ConditionType, reason: Reason, message: str = "") -> None:
        self._mark(type_, ConditionStatus.FALSE, reason, message)

    def mark_unknown(self, type_: ConditionType, reason: Reason, message: str = "") -> None:
        self._mark(type_, ConditionStatus.UNKNOWN, reason, message)

    def keep(self, type_: ConditionType) -> bool:
        """Leaves it as it was, if it was said of this generation. Returns whether it was."""
        before = self.previous.get(type_, {})
        is_ours = before.get("reason") in {each.value for each in Reason}
        if not is_ours or before.get("observedGeneration") != self.generation:
            return False
        self.marked[type_] = before
        return True

    def was_true(self, type_: ConditionType) -> bool:
        """Whether it was, when the pass began."""
        return self.previous.get(type_, {}).get("status") == ConditionStatus.TRUE

    def reasons_before(self) -> frozenset[str]:
        """Those that the conditions carried when the pass began."""
        return frozenset(each.get("reason", "") for each in self.previous.values())

    def message_before(self, reason: Reason) -> str:
        """What was said with this reason when the pass began; empty when nothing was."""
        said = (each for each in self.previous.values() if each.get("reason") == reason)
        return next((str(each.get("message", "")) for each in said), "")

    def as_list(self) -> list[dict[str, Any]]:
        """All conditions in the order of their declaration."""
        return [self.marked[type_] for type_ in ConditionType if type_ in self.marked]

    def _mark(
        self, type_: ConditionType, status: ConditionStatus, reason: Reason, message: str
    ) -> None:
        before = self.previous.get(type_, {})
        is_same = before.get("status") == status
        if not is_same or before.get("reason") != reason:
            self.transitions.append(Transition(type_, status, reason, message, not before))
        self.marked[type_] = {
            "type": type_.value,
            "status": status.value,
            "observedGeneration": self.generation,
            "lastTransitionTime": before["lastTransitionTime"] if is_same else _timestamp(self.now),
            "reason": reason.value,
            "message": message[:_MESSAGE_LIMIT],
        }


def condition_set(resource: Manifest, now: datetime) -> ConditionSet:
    """An empty set over the conditions that the live object has."""
    previous: Iterable[dict[str, Any]] = resource.get("status", {}).get("conditions", ())
    generation = resource["metadata"].get("generation", 0)
    return ConditionSet(generation, now, {each["type"]: each for each in previous})


def _timestamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
