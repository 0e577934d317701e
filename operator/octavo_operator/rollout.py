"""Rollout. Pure rollout arithmetic: how replicas of a new revision replace those of the old one.

A rollout adds a replica before it takes one away, so that no request and no capacity is lost. That needs
room for one more: a GPU, CPU, memory, a volume, a quota. Where none comes free and at least two replicas
run, `Auto` gives up one replica's capacity for the time of the rollout and replaces them one by one in
place: the others go on serving. A single replica is never stopped for a new one that might not start;
`Recreate` asks for that.
"""

from __future__ import annotations

from datetime import datetime

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec, RolloutStrategy
from octavo_operator.findings import Finding
from octavo_operator.render import Replacement
from octavo_operator.replicas import Fleet

SURGE_PATIENCE_SECONDS = 60.0
"""How long a rollout waits for room, which a cluster autoscaler may bring."""

_SURGE = Replacement("RollingUpdate", max_surge=1, max_unavailable=0)
_IN_PLACE = Replacement("RollingUpdate", max_surge=0, max_unavailable=1)
_MIN_REPLICAS_IN_PLACE = 2


def replacement(
    spec: LLMDeploymentSpec,
    before: Replacement | None,
    fleet: Fleet,
    refusal: Finding | None,
    replicas: int,
    now: datetime,
    *,
    is_replacing: bool = False,
) -> Replacement:
    """How replicas are to be replaced now, given how they were until now, which there are, why, if so,
    no more can be made, and whether the workload replaces some whatever their revision."""
    match spec.rollout.strategy:
        case RolloutStrategy.RECREATE:
            return Replacement("Recreate")
        case RolloutStrategy.ROLLING_UPDATE:
            return _SURGE
        case RolloutStrategy.AUTO:
            is_rollout = is_replacing or len(fleet.replicas) > len(fleet.current)
            if replicas < _MIN_REPLICAS_IN_PLACE or not is_rollout:
                return _SURGE
            return _automatic(before, fleet, refusal, now)


def patience_left(fleet: Fleet, refusal: Finding | None, now: datetime) -> float | None:
    """Seconds until a waiting rollout should be looked at again; None when none waits."""
    waits = [
        SURGE_PATIENCE_SECONDS - waited
        for waited in _waits(fleet, refusal, now)
        if waited < SURGE_PATIENCE_SECONDS
    ]
    return min(waits, default=None)


def overdue(
    given_up_since: datetime | None,
    first_made: datetime | None,
    deadline_seconds: int,
    now: datetime,
    *,
    unmade_since: datetime | None = None,
) -> tuple[bool, float | None]:
    """Whether a rollout that the workload gave up went on for the deadline that it has now, and the seconds
    until it will have: Kubernetes takes no verdict back when the deadline is raised.

    Args:
        first_made: When the first of its pods was made; None where none could be.
        unmade_since: Since when what is to make them cannot be made: Kubernetes never gives that up.
    """
    if unmade_since is not None:
        return _is_over(unmade_since, deadline_seconds, now)
    if given_up_since is None:
        return False, None
    if first_made is None:
        return True, None
    return _is_over(min(given_up_since, first_made), deadline_seconds, now)


def _is_over(since: datetime, seconds: int, now: datetime) -> tuple[bool, float | None]:
    left = seconds - (now - since).total_seconds()
    return (True, None) if left <= 0 else (False, left)


def _automatic(
    before: Replacement | None,
    fleet: Fleet,
    refusal: Finding | None,
    now: datetime,
) -> Replacement:
    is_in_place = before == _IN_PLACE
    waits = _waits(fleet, refusal, now)
    is_out_of_room = any(waited >= SURGE_PATIENCE_SECONDS for waited in waits)
    # Once in place, in place until the rollout ends: changing back would wait for room again.
    return _IN_PLACE if is_in_place or is_out_of_room else _SURGE


def _waits(fleet: Fleet, refusal: Finding | None, now: datetime) -> list[float]:
    """How long each thing that lacks room has been waiting for it, in seconds."""
    findings = [refusal, *(pod.finding for pod in fleet.current_pods)]
    return [
        (now - each.since).total_seconds()
        for each in findings
        if each is not None and each.is_shortage and each.since is not None
    ]
