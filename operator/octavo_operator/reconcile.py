"""Reconcile. One idempotent, level-triggered reconcile: observe → decide → plan → apply → judge → status.

It reads everything live, so it never matters which event led to it, how many were missed or whether
the operator was down. It ends with nothing written when nothing is to be changed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from octavo_operator import metrics
from octavo_operator.adapters import Adapters
from octavo_operator.apply import Applied, apply
from octavo_operator.autoscale.controller import Autoscaler, explain
from octavo_operator.children import desired
from octavo_operator.commits import Commits
from octavo_operator.condition_set import ConditionSet, condition_set
from octavo_operator.contest import Contests
from octavo_operator.deciding import Decided, Decider
from octavo_operator.failures import Failures
from octavo_operator.findings import Finding
from octavo_operator.judging import Judge
from octavo_operator.kube import Kube, KubeError
from octavo_operator.manifest import LLM_DEPLOYMENT, Manifest, ObjectKey, key_of
from octavo_operator.observing import Observed, observe
from octavo_operator.overruled import Overruled
from octavo_operator.plan import plan
from octavo_operator.recorder import Recorder
from octavo_operator.render import Installation
from octavo_operator.spec_reading import spec_of
from octavo_operator.startups import Startups
from octavo_operator.status import (
    compute_status,
    failed_status,
    invalid_status,
    loss_patience_left,
)
from octavo_operator.status_writer import StatusWriter
from octavo_operator.turns import Turns

log = structlog.get_logger()


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
        adapters: Adapters | None = None,
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
        self._turns = turns or Turns(0, lambda _: None)
        self._startups = startups or Startups()
        self._commits = commits or Commits()
        self._adapters = adapters or Adapters()
        self._judge = Judge(
            autoscaler, self._turns, self._commits, self._adapters, self._overruled, steady_clock
        )
        self._remembering = (
            self._autoscaler,
            self._contests,
            self._overruled,
            self._turns,
            self._startups,
            self._commits,
            self._adapters,
            self._judge,
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
            await self._refuse(resource, spec, conditions)
            return None
        observed = await observe(self._kube, resource, spec)
        decided = self._decider.decide(key, spec, observed)
        applied, contest, contest_wait = await self._carry_out(key, observed, decided)
        judged = self._judge.judge(observed, decided, applied, contest, conditions)
        self._turns.tell(key, is_rolling=judged.is_rolling)
        status = compute_status(judged.observation, conditions)
        await self._writer.write(resource, status, conditions)
        await self._announce_scaling(resource, decided)
        waits = (
            *judged.waits,
            contest_wait,
            loss_patience_left(conditions),
            self._overruled.wait(key, self._steady_clock()),
        )
        return min((wait for wait in waits if wait is not None), default=None)

    def _forget(self, key: ObjectKey) -> None:
        self.known.discard(key)
        for each in (*self._remembering, metrics):
            each.forget(key)

    async def _refuse(self, resource: Manifest, why: Finding, conditions: ConditionSet) -> None:
        """A spec that cannot be acted on: what ran before goes on, and nobody asks it anything."""
        key = key_of(resource)
        self._turns.tell(key, is_rolling=False)
        self._startups.forget(key)
        self._commits.forget(key)
        self._adapters.forget(key)
        status = invalid_status(resource, conditions, why.reason, why.message)
        await self._writer.write(resource, status, conditions)

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
