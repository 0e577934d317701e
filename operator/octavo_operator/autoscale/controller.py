"""Autoscaler. Keeps what autoscaling remembers between passes, and turns it into a decision for one
object."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime

from octavo_operator.api.conditions import Reason
from octavo_operator.api.quantity import duration_seconds
from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.autoscale.decide import (
    DEFAULT_SLOTS,
    Basis,
    Decision,
    Policy,
    State,
    decide,
)
from octavo_operator.autoscale.load import Load, Snapshot
from octavo_operator.manifest import ObjectKey
from octavo_operator.replicas import Fleet

_SINCE = re.compile(r"; replicas hold since (?P<since>\S+)$")


@dataclass(frozen=True, slots=True)
class AutoscalingView:
    """What the autoscaler says about itself, for the status."""

    reason: Reason
    message: str
    queue: int | None = None


@dataclass(slots=True)
class Autoscaler:
    """The memory of all autoscaled objects, and the snapshot of the last pass.

    `snapshot` is None before the first pass. A restart forgets everything: replicas then start from
    the live workload's number, and nothing shrinks before a whole window was watched anew.
    """

    is_configured: bool
    snapshot_max_age_seconds: float
    snapshot: Snapshot | None = None
    _states: dict[ObjectKey, State] = field(default_factory=dict)
    _blind_since: dict[ObjectKey, datetime] = field(default_factory=dict)

    def keys(self) -> list[ObjectKey]:
        """The objects that were decided about since the start and are autoscaled still."""
        return list(self._states)

    def forget(self, key: ObjectKey) -> None:
        """The object is gone or no longer autoscaled."""
        self._states.pop(key, None)
        self._blind_since.pop(key, None)

    def decide(
        self, key: ObjectKey, spec: LLMDeploymentSpec, fleet: Fleet, current: int, now: float
    ) -> Decision:
        """How many replicas an object with `spec.autoscaling` is to have now.

        Args:
            current: The live workload's replicas; before there is one, the spec's minimum.
            now: Seconds on the clock that the snapshot was taken with.
        """
        snapshot = self._fresh_snapshot(now)
        decision, self._states[key] = decide(
            load=snapshot.of(key, fleet.ready) if snapshot else Load(),
            serving=frozenset(each.name for each in fleet.ready),
            current=current,
            state=self._states.get(key, State()),
            policy=replace(policy_of(spec), gap_seconds=self.snapshot_max_age_seconds),
            now=now,
        )
        return decision

    def view(
        self,
        key: ObjectKey,
        spec: LLMDeploymentSpec,
        fleet: Fleet,
        decision: Decision | None,
        now: datetime,
        told: str = "",
    ) -> AutoscalingView:
        """What the status says about autoscaling.

        Args:
            now: The time of the pods' conditions.
            told: What the status says of samples that are not there, if it does.
        """
        if spec.autoscaling is None or decision is None:
            return AutoscalingView(Reason.AUTOSCALING_DISABLED, "the spec has no autoscaling")
        if not self.is_configured:
            return AutoscalingView(
                Reason.PROMETHEUS_NOT_CONFIGURED,
                "the operator was installed without prometheus.url; replicas hold",
            )
        why = self._why_blind(fleet, now) if decision.waiting is None else None
        since = self._lasting(key, now, told, is_blind=why is not None)
        if since is not None:
            message = f"{why}; replicas hold since {since}"
            return AutoscalingView(Reason.METRICS_UNAVAILABLE, message)
        bounds = spec.autoscaling
        message = (
            f"{bounds.min_replicas} to {bounds.max_replicas} replicas, "
            f"{bounds.queue_depth} waiting requests each"
        )
        return AutoscalingView(Reason.AUTOSCALING_ACTIVE, message, decision.waiting)

    def _lasting(self, key: ObjectKey, now: datetime, told: str, *, is_blind: bool) -> str | None:
        """Since when there are no samples, once there were none for as long as one may be old: a Prometheus
        that starts anew, or one question without an answer, is no alarm. What was told stays told."""
        if not is_blind:
            self._blind_since.pop(key, None)
            return None
        since = self._blind_since.setdefault(key, now)
        if said := _SINCE.search(told):
            return said["since"]
        is_young = (now - since).total_seconds() < self.snapshot_max_age_seconds
        return None if is_young and not told else since.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _why_blind(self, fleet: Fleet, now: datetime) -> str | None:
        """Why there are no samples, if somebody should know. A replica that answers since a
        moment ago has not been scraped yet, and without one that answers there is nothing to scrape."""
        if self.snapshot is not None and self.snapshot.error:
            return self.snapshot.error
        overdue = [
            each.name
            for each in fleet.ready
            if each.ready_since is None
            or (now - each.ready_since).total_seconds() > self.snapshot_max_age_seconds
        ]
        return f"no fresh samples of {', '.join(overdue[:3])}" if overdue else None

    def _fresh_snapshot(self, now: float) -> Snapshot | None:
        if self.snapshot is None or self.snapshot.error:
            return None
        age_seconds = now - self.snapshot.taken_at
        return self.snapshot if age_seconds <= self.snapshot_max_age_seconds else None


def policy_of(spec: LLMDeploymentSpec) -> Policy:
    """The decision's targets. Raises ValueError when the spec has no autoscaling."""
    if spec.autoscaling is None:
        raise ValueError("spec.autoscaling is absent")
    return Policy(
        min_replicas=spec.autoscaling.min_replicas,
        max_replicas=spec.autoscaling.max_replicas,
        queue_depth=spec.autoscaling.queue_depth,
        stabilization_seconds=float(duration_seconds(spec.autoscaling.scale_down_stabilization)),
        slots=spec.engine.max_num_seqs or DEFAULT_SLOTS,
    )


def explain(decision: Decision, before: int) -> str:
    """One sentence about a change of replicas, for the log and the Event."""
    is_backlog = decision.basis is Basis.BACKLOG
    why = f"{decision.waiting} requests wait" if is_backlog else decision.basis.value
    return f"replicas {before} → {decision.replicas}: {why}"
