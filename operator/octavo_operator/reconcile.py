"""One idempotent, level-triggered reconcile: observe → decide → render → plan → apply → status.

It reads everything live, so it never matters which event led to it, how many were missed or whether
the operator was down. It ends with nothing written when nothing is to be changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog
from pydantic import ValidationError

from octavo_operator import events
from octavo_operator.api import v1alpha1
from octavo_operator.api.conditions import Reason
from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.autoscale.controller import Autoscaler, explain
from octavo_operator.autoscale.decide import Decision
from octavo_operator.kube import Kube, KubeError
from octavo_operator.manifest import (
    CHILD_KINDS,
    DEPLOYMENT,
    EVENT,
    LLM_DEPLOYMENT,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SERVICE,
    Kind,
    Manifest,
    ObjectKey,
)
from octavo_operator.plan import Action, ActionType, first_drift, plan
from octavo_operator.pods import (
    Finding,
    Fleet,
    deadline_exceeded,
    deployment_finding,
    fleet,
    setup_patience_left,
)
from octavo_operator.render import (
    Installation,
    RenderContext,
    child_names,
    owner_of,
    render,
)
from octavo_operator.render.cache import is_of_one_node
from octavo_operator.render.command import claim_name
from octavo_operator.render.metadata import selector
from octavo_operator.render.pod import pod_template, revision_of
from octavo_operator.rollout import patience_left, replacement
from octavo_operator.status import (
    ConditionSet,
    Observation,
    Transition,
    compute_status,
    condition_set,
    invalid_status,
    settlement,
)

log = structlog.get_logger()

_RETRY_REFUSED_SECONDS = 30.0
"""After the API server refused a child: quotas and policies change without telling us."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What the cluster held when the pass began."""

    resource: Manifest
    children: dict[Kind, Manifest | None]
    pods: list[Manifest]
    claim: Manifest | None
    """The user's claim that `pvc://` names, if the spec names one and it is there."""

    @property
    def deployment(self) -> Manifest | None:
        """The live Deployment, if it is there."""
        return self.children[DEPLOYMENT]


@dataclass(slots=True)
class Applied:
    """What became of the plan: the Deployment as the API server answered, the first problem, and why
    the Service does not lead to the pods, if it does not."""

    deployment: Manifest | None = None
    problem: Finding | None = None
    service_problem: Finding | None = None
    was_refused: bool = False


class Reconciler:
    """Reconciles one object at a time per key; safe to call for many keys at once."""

    def __init__(
        self,
        kube: Kube,
        installation: Installation,
        autoscaler: Autoscaler,
        *,
        instance: str,
        wall_clock: Callable[[], datetime],
        steady_clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._installation = installation
        self._autoscaler = autoscaler
        self._instance = instance
        self._wall_clock = wall_clock
        self._steady_clock = steady_clock

    async def reconcile(self, key: ObjectKey) -> float | None:
        """One pass. Returns the seconds after which to look again, or None. Raises KubeError."""
        resource = await self._kube.get(LLM_DEPLOYMENT, key.namespace, key.name)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            self._autoscaler.forget(key)
            return None
        conditions = condition_set(resource, self._wall_clock())
        try:
            spec = LLMDeploymentSpec.model_validate(resource["spec"])
        except ValidationError as error:
            status = invalid_status(
                resource, conditions, Reason.INVALID_SPEC, _field_messages(error)
            )
            await self._write_status(resource, status, conditions)
            return None
        observed = await self._observe(key, resource, spec)
        decision, context, pods = self._decide(key, spec, observed)
        applied = await self._apply(
            plan(observed.children, render(context), owner_of(resource).uid), observed
        )
        observation = Observation(
            key=key,
            generation=conditions.generation,
            spec=spec,
            fleet=pods,
            desired_replicas=context.replicas,
            autoscaling=self._autoscaler.view(spec, pods, decision, conditions.now),
            problem=applied.problem or deployment_finding(applied.deployment) or pods.finding(),
            service_problem=applied.service_problem,
            is_deadline_exceeded=deadline_exceeded(applied.deployment),
            settled=settlement(resource),
        )
        await self._write_status(resource, compute_status(observation, conditions), conditions)
        await self._announce_scaling(resource, decision, observed)
        if applied.was_refused:
            return _RETRY_REFUSED_SECONDS
        now = self._wall_clock()
        waits = (patience_left(pods, now), setup_patience_left(pods, now))
        return min((wait for wait in waits if wait is not None), default=None)

    async def _observe(
        self, key: ObjectKey, resource: Manifest, spec: LLMDeploymentSpec
    ) -> Observed:
        names = child_names(key.name)
        pods, children, claim = await asyncio.gather(
            self._kube.list(POD, key.namespace, selector(key.name)),
            asyncio.gather(
                *(self._kube.get(kind, key.namespace, names[kind]) for kind in CHILD_KINDS)
            ),
            self._claim(key, spec),
        )
        return Observed(resource, dict(zip(CHILD_KINDS, children, strict=True)), pods, claim)

    async def _claim(self, key: ObjectKey, spec: LLMDeploymentSpec) -> Manifest | None:
        if spec.model.scheme != "pvc":
            return None
        name = claim_name(spec.model)
        return await self._kube.get(PERSISTENT_VOLUME_CLAIM, key.namespace, name)

    def _decide(
        self, key: ObjectKey, spec: LLMDeploymentSpec, observed: Observed
    ) -> tuple[Decision | None, RenderContext, Fleet]:
        """Replicas and rollout for this pass, and the pods seen with the revision that will hold."""
        live, now = observed.deployment, self._wall_clock()
        owner = owner_of(observed.resource)
        # The revision depends on the pod template alone, so it is known before the rest is decided.
        draft = RenderContext(
            owner,
            spec,
            self._installation,
            spec.replicas,
            replacement(spec, None, Fleet("", ()), 0, now),
            is_claim_of_one_node=is_of_one_node(observed.claim),
        )
        revision = revision_of(pod_template(draft))
        pods = fleet(observed.pods, revision, spec.resources.gpu_resource, now)
        decision = None
        replicas = spec.replicas
        if spec.autoscaling:
            current = _live_replicas(live, default=spec.autoscaling.min_replicas)
            decision = self._autoscaler.decide(key, spec, pods, current, self._steady_clock())
            replicas = decision.replicas
        else:
            self._autoscaler.forget(key)
        how = replacement(spec, live, pods, replicas, now)
        return decision, replace(draft, replicas=replicas, replacement=how), pods

    async def _apply(self, actions: Sequence[Action], observed: Observed) -> Applied:
        """Carries the plan out in its order. A child that is refused does not stop the others, but a
        name that is taken stops them all: pods must not run under somebody else's objects."""
        conflicts = [action for action in actions if action.type is ActionType.CONFLICT]
        if conflicts:
            problem = _conflict(conflicts[0])
            is_led = all(_leads_to_pods(each, observed) for each in actions if each.kind is SERVICE)
            return Applied(None, problem, None if is_led else problem, was_refused=True)
        applied = Applied()
        for action in actions:
            try:
                live = await self._carry_out(action)
            except KubeError as error:
                if error.is_namespace_terminating or not error.is_refusal:
                    raise
                applied.was_refused = True
                problem = _refused(action, error)
                applied.problem = applied.problem or problem
                if action.kind is SERVICE and not _leads_to_pods(action, observed):
                    applied.service_problem = problem
                continue
            if action.kind is DEPLOYMENT and action.type is not ActionType.DELETE:
                applied.deployment = live
        return applied

    async def _carry_out(self, action: Action) -> Manifest:
        if action.type is ActionType.KEEP:
            return action.manifest
        metadata = action.manifest["metadata"]
        log.info(
            "child",
            action=action.type.value,
            kind=action.kind.kind,
            key=f"{metadata['namespace']}/{metadata['name']}",
            why=action.why,
        )
        if action.type is ActionType.DELETE:
            await self._kube.delete(action.kind, action.manifest)
            return action.manifest
        return await self._kube.apply(action.kind, action.manifest)

    async def _write_status(
        self, resource: Manifest, status: dict[str, Any], conditions: ConditionSet
    ) -> None:
        """Writes the status if it differs, and tells the news."""
        if resource.get("status", {}) == status:
            return
        metadata = resource["metadata"]
        manifest = {
            "apiVersion": v1alpha1.API_VERSION,
            "kind": v1alpha1.KIND,
            # With the uid: a status must not land on an object that took the same name since.
            "metadata": {key: metadata[key] for key in ("name", "namespace", "uid")},
            "status": status,
        }
        try:
            if await self._kube.apply_status(LLM_DEPLOYMENT, manifest) is None:
                return
        except KubeError as error:
            if error.is_conflict:
                return  # another object by now; its own event brings us back
            raise
        for transition in events.news(conditions.transitions):
            await self._tell(resource, transition)

    async def _tell(self, resource: Manifest, transition: Transition) -> None:
        metadata = resource["metadata"]
        log.info(
            "condition",
            key=f"{metadata['namespace']}/{metadata['name']}",
            type=transition.type.value,
            status=transition.status.value,
            reason=transition.reason.value,
            message=transition.message,
        )
        now = self._wall_clock()
        await self._record(events.transition_event(resource, transition, self._instance, now))

    async def _announce_scaling(
        self, resource: Manifest, decision: Decision | None, observed: Observed
    ) -> None:
        if decision is None or observed.deployment is None:
            return
        before = _live_replicas(observed.deployment, default=decision.replicas)
        if before == decision.replicas:
            return
        note = explain(decision, before)
        metadata = resource["metadata"]
        log.info("autoscaling", key=f"{metadata['namespace']}/{metadata['name']}", change=note)
        await self._record(
            events.event(
                resource,
                reason="Autoscaled",
                note=note,
                is_warning=False,
                action="Scale",
                instance=self._instance,
                now=self._wall_clock(),
            )
        )

    async def _record(self, event: Manifest) -> None:
        """An Event that cannot be written is not worth a failed pass."""
        try:
            await self._kube.create(EVENT, event)
        except KubeError as error:
            log.warning("event not written", reason=event["reason"], error=str(error))


def _live_replicas(deployment: Manifest | None, default: int) -> int:
    if deployment is None:
        return default
    return int(deployment["spec"].get("replicas", default))


def _leads_to_pods(action: Action, observed: Observed) -> bool:
    """Whether the Service that is live is ours and routes as it must, even without this action."""
    live = observed.children[SERVICE]
    if action.type is ActionType.CONFLICT or live is None:
        return False
    return first_drift(action.manifest["spec"], live["spec"]) is None


def _conflict(action: Action) -> Finding:
    metadata = action.manifest["metadata"]
    return Finding(
        Reason.NAME_CONFLICT,
        f"{action.kind.kind} {metadata['namespace']}/{metadata['name']} exists and does not belong "
        "to this LLMDeployment",
    )


def _refused(action: Action, error: KubeError) -> Finding:
    return Finding(Reason.APPLY_FAILED, f"{action.kind.kind} {action.name}: {error}")


def _field_messages(error: ValidationError) -> str:
    parts = []
    for problem in error.errors(include_url=False, include_context=False):
        path = ".".join(["spec", *(str(part) for part in problem["loc"])])
        parts.append(f"{path}: {problem['msg']} (value: {str(problem['input'])[:100]!r})")
    return "; ".join(parts)
