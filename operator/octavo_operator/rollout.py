"""Rollout. Pure rollout arithmetic: how replicas of a new revision replace those of the old one.

A rollout adds a replica before it takes one away, so that no request and no capacity is lost. That needs
a free GPU. Where none comes free and at least two replicas run, `Auto` gives up one replica's
capacity for the time of the rollout and replaces them one by one in place: the others go on serving.
A single replica is never stopped for a new one that might not start; `Recreate` asks for that.
"""

from __future__ import annotations

from datetime import datetime

from octavo_operator.api.conditions import Reason
from octavo_operator.api.v1alpha1 import LLMDeploymentSpec, RolloutStrategy
from octavo_operator.render import Replacement
from octavo_operator.replicas import Fleet

SURGE_PATIENCE_SECONDS = 60.0
"""How long a rollout waits for a free GPU, which a cluster autoscaler may bring."""

_SURGE = Replacement("RollingUpdate", max_surge=1, max_unavailable=0)
_IN_PLACE = Replacement("RollingUpdate", max_surge=0, max_unavailable=1)
_MIN_REPLICAS_IN_PLACE = 2


def replacement(
    spec: LLMDeploymentSpec,
    before: Replacement | None,
    fleet: Fleet,
    replicas: int,
    now: datetime,
) -> Replacement:
    """How replicas are to be replaced now, given how they were until now and which there are."""
    match spec.rollout.strategy:
        case RolloutStrategy.RECREATE:
            return Replacement("Recreate")
        case RolloutStrategy.ROLLING_UPDATE:
            return _SURGE
        case RolloutStrategy.AUTO:
            return _automatic(before, fleet, replicas, now)


def patience_left(fleet: Fleet, now: datetime) -> float | None:
    """Seconds until a waiting rollout should be looked at again; None when none waits."""
    waits = [
        SURGE_PATIENCE_SECONDS - waited
        for waited in _waits(fleet, now)
        if waited < SURGE_PATIENCE_SECONDS
    ]
    return min(waits, default=None)


def _automatic(
    before: Replacement | None, fleet: Fleet, replicas: int, now: datetime
) -> Replacement:
    old_replicas = len(fleet.replicas) - len(fleet.current)
    if replicas < _MIN_REPLICAS_IN_PLACE or old_replicas == 0:
        return _SURGE
    is_in_place = before == _IN_PLACE
    is_out_of_gpus = any(waited >= SURGE_PATIENCE_SECONDS for waited in _waits(fleet, now))
    # Once in place, in place until the rollout ends: changing back would wait for a GPU again.
    return _IN_PLACE if is_in_place or is_out_of_gpus else _SURGE


def _waits(fleet: Fleet, now: datetime) -> list[float]:
    return [
        (now - pod.unscheduled_since).total_seconds()
        for pod in fleet.current_pods
        if pod.unscheduled_since is not None
        and pod.finding is not None
        and pod.finding.reason is Reason.INSUFFICIENT_GPU
    ]
