"""Status: the one place that sets conditions, by `mark_…` helpers. Pure; the clock is passed in.

Everything is said from what was observed in this pass, about the generation that was read in this
pass. `lastTransitionTime` changes only with `status`, so equal observations give an equal status and
nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from octavo_operator.api.conditions import (
    MODEL_REASONS,
    ConditionStatus,
    ConditionType,
    Reason,
)
from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.autoscale.controller import AutoscalingView
from octavo_operator.condition_set import ConditionSet
from octavo_operator.failures import PATIENCE_SECONDS as FAULT_PATIENCE_SECONDS
from octavo_operator.findings import Finding
from octavo_operator.kstatus import abnormal
from octavo_operator.manifest import Manifest, ObjectKey
from octavo_operator.names import selector
from octavo_operator.pods import REASONS as POD_REASONS
from octavo_operator.render.service import url
from octavo_operator.replicas import Fleet
from octavo_operator.rollout import SURGE_PATIENCE_SECONDS

LOSS_PATIENCE_SECONDS = 60.0
"""How long lost replicas may take to come back before that needs a person: a pod that was deleted or
evicted is replaced within this time, unless something is wrong."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """A state that was reached: this many replicas of this revision."""

    revision: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that a status of a readable spec depends on."""

    key: ObjectKey
    generation: int
    spec: LLMDeploymentSpec
    fleet: Fleet
    desired_replicas: int
    autoscaling: AutoscalingView
    problem: Finding | None
    """The gravest thing in the way: of the children, of the workload, or of a pod."""
    is_young: bool = False
    """Whether that is no alarm yet, as Kubernetes tries it again by itself."""
    gpus: int = 0
    """Those that the pods hold or wait for, of whatever revision, those that end too."""
    service_problem: Finding | None = None
    """Why the Service is not there, not ours or not as it must be: the pods cannot be reached."""
    unreached: int = 0
    """Replicas that answer and are not among the Service's endpoints."""
    notice: Finding | None = None
    """What a person should look at though nothing suffers from it."""
    is_deadline_exceeded: bool = False
    is_replacing: bool = False
    """Whether the workload replaces pods by others, of whatever revision."""
    settled: Settlement | None = None
    """What was reached before, if the pass before found everything in place or replicas lost."""
    queued: str = ""
    """Why the rollout to another revision does not begin; empty when none waits."""
    remark: str = ""
    """What else there is to know of replicas that answer, or of which something is in the way."""

    @property
    def required_replicas(self) -> int:
        """Replicas of the current revision that must answer before the whole is Ready."""
        if self.spec.autoscaling:
            return self.spec.autoscaling.min_replicas
        return self.spec.replicas


def settlement(resource: Manifest) -> Settlement | None:
    """What the live status says was reached, if it says so."""
    status = resource.get("status", {})
    reached = (Reason.SETTLED, Reason.ROLLOUT_QUEUED, Reason.REPLICAS_UNAVAILABLE)
    if not any(
        each["type"] == ConditionType.PROGRESSING and each["reason"] in reached
        for each in status.get("conditions", ())
    ):
        return None
    return Settlement(status.get("revision", ""), status.get("desiredReplicas", 0))


def is_rolling_out(resource: Manifest) -> bool:
    """Whether the live status says so."""
    return any(
        each["type"] == ConditionType.PROGRESSING and each["reason"] == Reason.ROLLING_OUT
        for each in resource.get("status", {}).get("conditions", ())
    )


def compute_status(observation: Observation, conditions: ConditionSet) -> dict[str, Any]:
    """The whole status of a spec that could be read."""
    mark_ready(conditions, observation)
    mark_model_available(conditions, observation)
    mark_progressing(conditions, observation)
    mark_autoscaling(conditions, observation.autoscaling)
    mark_degraded(conditions, observation)
    mark_abnormal(conditions)
    fleet, desired = observation.fleet, observation.desired_replicas
    status: dict[str, Any] = {
        "observedGeneration": observation.generation,
        "replicas": len(fleet.replicas),
        "gpus": observation.gpus,
        "readyReplicas": len(fleet.ready),
        "updatedReplicas": len(fleet.ready_current),
        "desiredReplicas": desired,
        "ready": f"{len(fleet.ready)}/{desired}",
        "summary": summary(conditions),
        "selector": selector_text(observation.key.name),
        "revision": fleet.revision,
        "url": "" if observation.service_problem else url(observation.key),
        "conditions": conditions.as_list(),
    }
    if observation.autoscaling.queue is not None:
        status["queue"] = observation.autoscaling.queue
    return status


def invalid_status(
    resource: Manifest, conditions: ConditionSet, reason: Reason, message: str
) -> dict[str, Any]:
    """The status of a spec that the operator cannot act on; what ran before goes on running, so
    the counts of the live status stay."""
    conditions.mark_false(ConditionType.READY, reason, message)
    conditions.mark_unknown(ConditionType.MODEL_AVAILABLE, reason, message)
    conditions.mark_false(ConditionType.PROGRESSING, reason, message)
    conditions.mark_false(ConditionType.AUTOSCALING, reason, message)
    conditions.mark_true(ConditionType.DEGRADED, reason, message)
    mark_abnormal(conditions)
    return {
        **resource.get("status", {}),
        "observedGeneration": conditions.generation,
        "summary": summary(conditions),
        "conditions": conditions.as_list(),
    }


def failed_status(resource: Manifest, conditions: ConditionSet, why: str) -> dict[str, Any]:
    """The status of an object at which passes fail again and again.

    What was seen of this generation stays, as it does while no operator runs: who sends requests by `Ready`
    must not turn away from pods that answer because of a fault of ours, and `Degraded` says that nobody
    looks at them any more. Of a generation that no pass came through nothing is known.
    """
    for type_ in (
        ConditionType.READY,
        ConditionType.MODEL_AVAILABLE,
        ConditionType.PROGRESSING,
        ConditionType.AUTOSCALING,
    ):
        was_failed = conditions.previous.get(type_, {}).get("reason") == Reason.RECONCILE_FAILED
        if was_failed or not conditions.keep(type_):
            conditions.mark_unknown(type_, Reason.RECONCILE_FAILED, why)
    conditions.mark_true(ConditionType.DEGRADED, Reason.RECONCILE_FAILED, why)
    mark_abnormal(conditions)
    return {
        **resource.get("status", {}),
        "observedGeneration": conditions.generation,
        "summary": summary(conditions),
        "conditions": conditions.as_list(),
    }


def summary(conditions: ConditionSet) -> str:
    """What `kubectl get` has room for: why it is not Ready, else what needs a person."""
    ready, degraded = (
        conditions.marked[each] for each in (ConditionType.READY, ConditionType.DEGRADED)
    )
    is_both = ready["status"] == degraded["status"] == ConditionStatus.TRUE
    told: str = degraded["reason"] if is_both else ready["reason"]
    return told


def mark_ready(conditions: ConditionSet, seen: Observation) -> None:
    """True when enough replicas of the current revision answer, and requests find them."""
    answering, required = len(seen.fleet.ready_current), seen.required_replicas
    counts = f"{answering} of {required} replicas of revision {seen.fleet.revision} answer"
    remark = f"; {seen.remark}" if seen.remark else ""
    # Endpoints follow the pods a moment later: who waits for Ready shall find them.
    is_reached = conditions.was_true(ConditionType.READY) or answering - seen.unreached >= required
    if required == 0:
        # Nothing is to answer, which may not be all: the pods may stay, or others get the requests.
        hindrance = seen.service_problem or seen.problem
        reason = hindrance.reason if hindrance else Reason.SCALED_TO_ZERO
        why = f"; {hindrance.message}" if hindrance else ""
        conditions.mark_false(ConditionType.READY, reason, f"spec.replicas is 0{why}")
    elif seen.service_problem:
        conditions.mark_false(
            ConditionType.READY,
            seen.service_problem.reason,
            f"requests do not reach the pods as they must: {seen.service_problem.message}; {counts}"
            f"{remark}",
        )
    elif answering >= required and not is_reached:
        conditions.mark_false(
            ConditionType.READY,
            _movement(seen) or Reason.STARTING,
            f"{counts}; {seen.unreached} of them are no endpoints of the Service yet{remark}",
        )
    elif answering >= required:
        conditions.mark_true(ConditionType.READY, Reason.SERVING, counts + remark)
    elif seen.problem:
        message = f"{counts}: {seen.problem.message}{remark}"
        conditions.mark_false(ConditionType.READY, seen.problem.reason, message)
    else:
        reason = _movement(seen) or Reason.STARTING
        if seen.is_deadline_exceeded:
            reason = Reason.PROGRESS_DEADLINE_EXCEEDED  # not as if it still moved
        others = "; the others: " if answering else ": "
        conditions.mark_false(
            ConditionType.READY, reason, f"{counts}{others}{seen.fleet.phase_text()}{remark}"
        )


def mark_model_available(conditions: ConditionSet, seen: Observation) -> None:
    """Pods that answer prove the model; a runtime that refused it disproves it."""
    if seen.fleet.ready_current:
        draft = "" if seen.spec.draft is None else f", and {seen.spec.draft.uri} guesses for it"
        loaded = f"{seen.spec.model.uri} is loaded{draft}"
        conditions.mark_true(ConditionType.MODEL_AVAILABLE, Reason.MODEL_LOADED, loaded)
    elif seen.problem and seen.problem.reason in MODEL_REASONS:
        conditions.mark_false(
            ConditionType.MODEL_AVAILABLE, seen.problem.reason, seen.problem.message
        )
    elif seen.problem:
        conditions.mark_unknown(
            ConditionType.MODEL_AVAILABLE, seen.problem.reason, seen.problem.message
        )
    elif seen.desired_replicas == 0:
        conditions.mark_unknown(
            ConditionType.MODEL_AVAILABLE, Reason.SCALED_TO_ZERO, "spec.replicas is 0"
        )
    else:
        conditions.mark_unknown(
            ConditionType.MODEL_AVAILABLE, Reason.STARTING, seen.fleet.phase_text()
        )


def mark_progressing(conditions: ConditionSet, seen: Observation) -> None:
    """True while replicas come or go and nothing stops them."""
    movement = _movement(seen)
    counts = _counts(seen)
    is_still = movement is None and not seen.queued
    if not is_still and seen.problem and seen.problem.reason is Reason.NAME_CONFLICT:
        # Nothing is applied meanwhile.
        conditions.mark_false(ConditionType.PROGRESSING, Reason.NAME_CONFLICT, seen.problem.message)
    elif movement is None and seen.queued:
        conditions.mark_true(ConditionType.PROGRESSING, Reason.ROLLOUT_QUEUED, seen.queued)
    elif movement is None:
        conditions.mark_false(ConditionType.PROGRESSING, Reason.SETTLED, counts)
    elif seen.is_deadline_exceeded:
        conditions.mark_false(ConditionType.PROGRESSING, Reason.PROGRESS_DEADLINE_EXCEEDED, counts)
    else:
        conditions.mark_true(ConditionType.PROGRESSING, movement, counts)


def mark_autoscaling(conditions: ConditionSet, view: AutoscalingView) -> None:
    """True while the replica count follows the queue."""
    if view.reason is Reason.AUTOSCALING_ACTIVE:
        conditions.mark_true(ConditionType.AUTOSCALING, view.reason, view.message)
    else:
        conditions.mark_false(ConditionType.AUTOSCALING, view.reason, view.message)


def mark_degraded(conditions: ConditionSet, seen: Observation) -> None:
    """True when something needs a person: a problem, or replicas that were lost and stay away. Reads
    what Progressing was marked with."""
    answering = len(seen.fleet.ready)
    is_patient = loss_patience_left(conditions) is not None
    # The room that lost replicas need again may still be taken by those that are on their way out, and an
    # autoscaler of nodes brings what more replicas need.
    is_awaited = is_patient or _is_room_awaited(conditions, seen)
    # A container that ended starts again, and a node asks for an image again.
    is_restarting = is_patient and bool(seen.problem and seen.problem.reason in POD_REASONS)
    is_shortage = bool(seen.problem and seen.problem.is_shortage)
    passes = (
        seen.is_young or is_restarting or (is_awaited if is_shortage else _passes(conditions, seen))
    )
    if seen.problem and not passes:
        conditions.mark_true(ConditionType.DEGRADED, seen.problem.reason, seen.problem.message)
    elif seen.is_deadline_exceeded:
        conditions.mark_true(
            ConditionType.DEGRADED, Reason.PROGRESS_DEADLINE_EXCEEDED, seen.fleet.phase_text()
        )
    elif lost_since(conditions) is not None and not is_patient:
        conditions.mark_true(
            ConditionType.DEGRADED,
            Reason.REPLICAS_UNAVAILABLE,
            f"{answering} of {seen.desired_replicas} replicas answer",
        )
    elif seen.notice:
        conditions.mark_true(ConditionType.DEGRADED, seen.notice.reason, seen.notice.message)
    else:
        conditions.mark_false(ConditionType.DEGRADED, Reason.AS_EXPECTED)


def _is_room_awaited(conditions: ConditionSet, seen: Observation) -> bool:
    """Whether more replicas of a model that serves have lacked room for no longer than a rollout would wait
    for it, and nothing was wrong before."""
    since = seen.problem.since if seen.problem else None
    if since is None or not seen.fleet.ready or conditions.was_true(ConditionType.DEGRADED):
        return False
    return (conditions.now - since).total_seconds() < SURGE_PATIENCE_SECONDS


def _passes(conditions: ConditionSet, seen: Observation) -> bool:
    """Whether nothing was wrong before, and what is passes by itself most often: a fault that is young; a
    child on its way out of a model that has just begun to move, as one of a former object of its name is."""
    problem = seen.problem
    if problem is None or conditions.was_true(ConditionType.DEGRADED):
        return False
    if problem.may_pass and problem.since is not None:
        return (conditions.now - problem.since).total_seconds() < FAULT_PATIENCE_SECONDS
    if problem.reason is not Reason.CHILD_TERMINATING:
        return False
    progressing = conditions.marked[ConditionType.PROGRESSING]
    since = datetime.fromisoformat(progressing["lastTransitionTime"])
    is_young = (conditions.now - since).total_seconds() < LOSS_PATIENCE_SECONDS
    is_moving = progressing["status"] == ConditionStatus.TRUE
    return is_moving and is_young


def mark_abnormal(conditions: ConditionSet) -> None:
    """True: one of kstatus's, if one is to be there. Reads what the others were marked with."""
    found = abnormal(conditions.marked)
    if found is not None:
        conditions.mark_true(found.type, found.reason, found.message)


def lost_since(conditions: ConditionSet) -> datetime | None:
    """Since when replicas are missing that were there, as Progressing says in this pass."""
    progressing = conditions.marked.get(ConditionType.PROGRESSING, {})
    if progressing.get("reason") != Reason.REPLICAS_UNAVAILABLE:
        return None
    return datetime.fromisoformat(progressing["lastTransitionTime"])


def loss_patience_left(conditions: ConditionSet) -> float | None:
    """Seconds until lost replicas should be looked at again; None when none are lost, or when it has
    been said."""
    since = lost_since(conditions)
    if since is None:
        return None
    left = LOSS_PATIENCE_SECONDS - (conditions.now - since).total_seconds()
    return left if left > 0 else None


def selector_text(name: str) -> str:
    """The pods' selector as `kubectl get pods -l` and the scale subresource take it."""
    return ",".join(f"{key}={value}" for key, value in selector(name).items())


def _movement(seen: Observation) -> Reason | None:
    """Which way replicas are moving; None when they are all there, of one revision.

    Those that are missing after everything was settled, with nothing wanted anew, were lost.
    """
    fleet, desired = seen.fleet, seen.desired_replicas
    if len(fleet.replicas) > len(fleet.current) or seen.is_replacing:
        return Reason.ROLLING_OUT
    if len(fleet.replicas) > desired:
        return Reason.SCALING_DOWN
    is_settled = seen.settled == Settlement(fleet.revision, desired)
    if len(fleet.ready) < desired and is_settled:
        return Reason.REPLICAS_UNAVAILABLE
    reached = len(fleet.ready) - seen.unreached
    if reached < desired and not is_settled:
        return Reason.SCALING_UP if reached else Reason.STARTING
    return None


def _counts(seen: Observation) -> str:
    fleet = seen.fleet
    counts = (
        f"{len(fleet.replicas)} of {seen.desired_replicas} wanted replicas exist, "
        f"{len(fleet.current)} of revision {fleet.revision}, {len(fleet.ready)} answer"
    )
    return "; ".join((counts, *fleet.progress_texts()))
