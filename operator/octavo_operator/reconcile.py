"""Reconcile. One idempotent, level-triggered reconcile: observe → decide → render → plan → apply → status.

It reads everything live, so it never matters which event led to it, how many were missed or whether
the operator was down. It ends with nothing written when nothing is to be changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from octavo_operator import claims, images, metrics
from octavo_operator.api.conditions import Reason
from octavo_operator.api.quantity import duration_seconds
from octavo_operator.api.v1alpha1 import LLMDeploymentSpec, ineffective_fields
from octavo_operator.apply import Applied, apply
from octavo_operator.autoscale.controller import Autoscaler, explain
from octavo_operator.children import CHILDREN, desired
from octavo_operator.commits import Commits, difference
from octavo_operator.condition_set import condition_set
from octavo_operator.contest import Contests
from octavo_operator.deciding import Decided, Decider, Observed
from octavo_operator.endpoints import PROPAGATION_SECONDS, SERVICE_NAME_LABEL, judge
from octavo_operator.failures import Failures
from octavo_operator.findings import Finding
from octavo_operator.kube import Kube, KubeError
from octavo_operator.manifest import (
    ENDPOINT_SLICE,
    LLM_DEPLOYMENT,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    Manifest,
    ObjectKey,
)
from octavo_operator.names import selector
from octavo_operator.overruled import Overruled
from octavo_operator.plan import plan
from octavo_operator.recorder import Recorder
from octavo_operator.render import (
    Installation,
    PodContext,
    cache,
    service,
)
from octavo_operator.render.api_keys import ENVIRONMENT_REMARK
from octavo_operator.replicas import setup_patience_left
from octavo_operator.rollout import overdue, patience_left
from octavo_operator.sightings import Sightings
from octavo_operator.spec_reading import spec_of
from octavo_operator.startups import Startups
from octavo_operator.status import (
    Observation,
    compute_status,
    failed_status,
    invalid_status,
    loss_patience_left,
    settlement,
)
from octavo_operator.status_writer import StatusWriter
from octavo_operator.turns import Turns

log = structlog.get_logger()

_RETRY_REFUSED_SECONDS = 30.0
"""After the API server refused a child: quotas and policies change without telling us."""


class Reconciler:
    """Reconciles one object at a time per key; safe to call for many keys at once."""

    def __init__(
        self,
        kube: Kube,
        installation: Installation,
        autoscaler: Autoscaler,
        turns: Turns | None = None,
        startups: Startups | None = None,
        commits: Commits | None = None,
        *,
        instance: str,
        wall_clock: Callable[[], datetime],
        steady_clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._installation = installation
        self._autoscaler = autoscaler
        self._contests = Contests()
        self._overruled = Overruled()
        self._sightings = Sightings(PROPAGATION_SECONDS)
        self._growing = Sightings(claims.GROWTH_PATIENCE_SECONDS)
        self._turns = turns or Turns(0, lambda _: None)
        self._startups = startups or Startups()
        self._commits = commits or Commits()
        self._remembering = (
            self._autoscaler,
            self._contests,
            self._overruled,
            self._sightings,
            self._growing,
            self._turns,
            self._startups,
            self._commits,
        )
        self.known: set[ObjectKey] = set()
        """The objects that were there when they were looked at last; each has something remembered of it."""
        self._decider = Decider(
            installation,
            autoscaler,
            self._turns,
            self._startups,
            wall_clock=wall_clock,
            steady_clock=steady_clock,
        )
        self._recorder = Recorder(kube, instance, wall_clock)
        self._writer = StatusWriter(kube, self._recorder)
        self._failures = Failures()
        self._log = f"`kubectl -n {installation.operator_namespace} logs {instance}`"
        self._wall_clock = wall_clock
        self._steady_clock = steady_clock

    async def reconcile(self, key: ObjectKey) -> float | None:
        """One pass. Returns the seconds after which to look again, or None. Raises KubeError, and whatever a
        fault of ours raises; the status tells what goes on failing."""
        try:
            wait = await self._pass(key)
        except Exception as error:
            is_of_server = isinstance(error, KubeError)
            if isinstance(error, KubeError) and error.is_namespace_terminating:
                raise
            now = self._steady_clock()
            if self._failures.count(key, now, may_pass=is_of_server):
                kind = type(error).__name__
                ours = f"{kind}, a fault of the operator, whose log says where: {self._log}"
                await self._tell_failure(key, str(error) if is_of_server else ours)
            raise
        self._failures.forget(key)
        return wait

    async def _tell_failure(self, key: ObjectKey, what: str) -> None:
        """Nothing that fails here may hide what failed before."""
        self._turns.tell(key, is_rolling=False)
        resource = None
        try:
            resource = await self._kube.get(LLM_DEPLOYMENT, key.namespace, key.name)
            if resource is None or "deletionTimestamp" in resource["metadata"]:
                return
            conditions = condition_set(resource, self._wall_clock())
            why = f"passes over this object fail: {what}"
            status = failed_status(resource, conditions, why)
            await self._writer.write(resource, status, conditions)
        except Exception as error:
            log.warning("a failure is not in the status", key=str(key), error=str(error))
            if resource is not None and isinstance(error, KubeError):
                # The status is the only other place where users look.
                why = "" if what == str(error) else f"passes over this object fail: {what}; "
                await self._recorder.failed(resource, f"{why}its status cannot be written: {error}")

    async def _pass(self, key: ObjectKey) -> float | None:
        resource = await self._kube.get(LLM_DEPLOYMENT, key.namespace, key.name)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            self._forget(key)
            return None
        self.known.add(key)
        conditions = condition_set(resource, self._wall_clock())
        spec = spec_of(resource, self._installation)
        if isinstance(spec, Finding):
            status = invalid_status(resource, conditions, spec.reason, spec.message)
            self._turns.tell(key, is_rolling=False)
            self._startups.forget(key)
            self._commits.forget(key)
            await self._writer.write(resource, status, conditions)
            return None
        observed = await self._observe(key, resource, spec)
        decided = self._decider.decide(key, spec, observed)
        context, workload, seen = decided.context, decided.workload, decided.fleet
        applied, contest, contest_wait = await self._carry_out(key, observed, decided)
        live = applied.live.get(workload.key)
        refusal = (None if live is None else workload.finding(live)) or decided.refusal
        led = judge(
            self._sightings,
            key,
            observed.slices,
            seen,
            decided.pods,
            conditions.reasons_before(),
            self._steady_clock(),
        )
        kept = observed.children[context.pods.cache_key or cache.KEY]
        growth, growth_wait = claims.growth(
            self._growing,
            key,
            kept,
            spec.model.cache,
            conditions.reasons_before(),
            self._steady_clock(),
            has_pods=bool(seen.replicas),
        )
        is_overdue, overdue_wait = overdue(
            None if live is None else workload.given_up_since(live),
            decided.first_made,
            duration_seconds(spec.rollout.progress_deadline),
            conditions.now,
        )
        commits = self._commits.follow(key, spec.model, seen)
        moved = conditions.message_before(Reason.MODEL_COMMITS_DIFFER)
        observation = Observation(
            key=key,
            generation=conditions.generation,
            spec=spec,
            fleet=seen,
            gpus=decided.gpus,
            desired_replicas=context.replicas,
            autoscaling=self._autoscaler.view(spec, seen, decided.scaling, conditions.now),
            problem=applied.problem or contest or led.problem or refusal or seen.finding(),
            service_problem=applied.service_problem or led.problem,
            unreached=led.unreached,
            notice=led.notice
            or claims.dying(observed.claims, spec)
            or claims.unchangeable(kept, spec.model.cache)
            or growth
            or applied.notice
            or self._overruled.notice(key)
            or difference(spec.model, commits, moved),
            is_deadline_exceeded=is_overdue,
            is_replacing=not context.is_held and live is not None and workload.is_replacing(live),
            queued=self._turns.why(decided.change) if context.is_held else "",
            settled=settlement(resource),
            remark=_remark(
                context.pods,
                self._overruled.remark(key),
                images.difference(seen),
                decided.preempted,
            ),
        )
        self._turns.tell(key, is_rolling=_is_rolling(observation, decided, live))
        await self._writer.write(resource, compute_status(observation, conditions), conditions)
        await self._announce_scaling(resource, decided)
        now = self._wall_clock()
        waits = (
            patience_left(seen, refusal, now),
            setup_patience_left(seen, now),
            loss_patience_left(conditions),
            contest_wait,
            led.wait,
            growth_wait,
            overdue_wait,
            self._overruled.wait(key, self._steady_clock()),
            _RETRY_REFUSED_SECONDS if applied.was_refused else None,
        )
        return min((wait for wait in waits if wait is not None), default=None)

    def _forget(self, key: ObjectKey) -> None:
        self.known.discard(key)
        for each in (*self._remembering, metrics):
            each.forget(key)

    async def _observe(
        self, key: ObjectKey, resource: Manifest, spec: LLMDeploymentSpec
    ) -> Observed:
        service_name = service.KEY.name_for(key.name)
        pods, children, slices, claims = await asyncio.gather(
            self._kube.list(POD, key.namespace, selector(key.name)),
            asyncio.gather(
                *(
                    self._kube.get(child.kind, key.namespace, child.name_for(key.name))
                    for child in CHILDREN
                )
            ),
            self._kube.list(ENDPOINT_SLICE, key.namespace, {SERVICE_NAME_LABEL: service_name}),
            asyncio.gather(
                *(
                    self._kube.get(PERSISTENT_VOLUME_CLAIM, key.namespace, name)
                    for name in spec.claims
                )
            ),
        )
        by_key = dict(zip(CHILDREN, children, strict=True))
        return Observed(resource, by_key, pods, slices, claims)

    async def _carry_out(
        self, key: ObjectKey, observed: Observed, decided: Decided
    ) -> tuple[Applied, Finding | None, float | None]:
        """Applies what differs. Returns what became of it, and of a contest over it what to say and the
        seconds after which to look again. Raises KubeError when somebody else was faster."""
        context = decided.context
        actions = plan(observed.children, desired(context, decided.workload), context.owner)
        actions = self._overruled.hold(key, actions, self._steady_clock())
        actions, contest, wait = self._contests.hold(key, actions, self._steady_clock())
        is_failing = self._failures.is_lasting(key, self._steady_clock())
        applied = await apply(self._kube, actions, tells_faults=is_failing)
        self._contests.count(key, actions, applied.live, self._steady_clock())
        self._overruled.count(key, actions, applied.live, self._steady_clock())
        if applied.lost_race is not None:
            raise applied.lost_race
        return applied, contest, wait

    async def _announce_scaling(self, resource: Manifest, decided: Decided) -> None:
        scaling, before = decided.scaling, decided.replicas_before
        if scaling is not None and before is not None and before != scaling.replicas:
            await self._recorder.scaled(resource, explain(scaling, before))


def _remark(pods: PodContext, *others: str) -> str:
    keys = ENVIRONMENT_REMARK if pods.has_keys_in_environment else ""
    return "; ".join(part for part in (keys, ineffective_fields(pods.spec), *others) if part)


def _is_rolling(seen: Observation, decided: Decided, live: Manifest | None) -> bool:
    """Whether the pods are on their way to the wanted revision, and not given up."""
    workload, wanted = decided.workload, decided.change.wanted
    if live is None or workload.live_revision(live) != wanted or workload.is_held(live):
        return False
    is_over = (
        not decided.change.has_others
        and not seen.is_replacing
        and len(seen.fleet.ready_current) >= seen.required_replicas
    )
    return not is_over and not seen.is_deadline_exceeded
