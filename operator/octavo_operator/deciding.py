"""Deciding: how many replicas there are to be, of which revision, and how pods are replaced, in one pass.

It stands between what was observed and what is rendered. Nothing is done here, but what is asked remembers:
the turns of rollouts, starts, the autoscaler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from octavo_operator import node_refusals, preemption
from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.autoscale.controller import Autoscaler
from octavo_operator.autoscale.decide import Decision
from octavo_operator.findings import Finding
from octavo_operator.manifest import ObjectKey
from octavo_operator.observing import Observed
from octavo_operator.pods import PodView, staying, views
from octavo_operator.render import Installation, PodContext, RenderContext, cache, owner_of
from octavo_operator.replicas import Fleet, fleet
from octavo_operator.rollout import replacement
from octavo_operator.startups import Startups
from octavo_operator.turns import Change, Turns
from octavo_operator.workload import Workload, in_force, workload_of


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be, and what was seen with the eyes of the revision that will hold."""

    workload: Workload
    context: RenderContext
    pods: list[PodView]
    """Those with our label."""
    fleet: Fleet
    gpus: int
    """Those of all its pods, which hold them until they have ended."""
    scaling: Decision | None
    """The autoscaler's, where the spec has it."""
    change: Change
    """What is to become of the pods."""
    replicas_before: int | None
    """How many the live workload asks for, if there is one."""
    refusal: Finding | None
    """Why nodes do not run its pods, if they do not."""
    first_made: datetime | None
    """When the first pod of the wanted revision was made, of those that are there."""
    preempted: str
    """What is to be said of pods that the scheduler took away."""


class Decider:
    """For one object at a time; what it remembers is of those that it was given."""

    def __init__(
        self,
        installation: Installation,
        autoscaler: Autoscaler,
        turns: Turns,
        startups: Startups,
        *,
        wall_clock: Callable[[], datetime],
        steady_clock: Callable[[], float],
    ) -> None:
        self._installation = installation
        self._autoscaler = autoscaler
        self._turns = turns
        self._startups = startups
        self._wall_clock = wall_clock
        self._steady_clock = steady_clock

    def decide(self, key: ObjectKey, spec: LLMDeploymentSpec, observed: Observed) -> Decided:
        """Replicas and rollout for this pass. The revision depends on the pods alone, so it is known
        before the rest is decided."""
        now, workload = self._wall_clock(), workload_of(spec)
        live = observed.children[workload.key]
        existing = views(observed.pods, spec.resources.gpu_resource, now)
        labelled = staying(existing)
        pods = _pod_context(observed, spec, self._installation)
        pods = in_force(workload, pods, live, labelled)
        every = workload.replicas(key.name, labelled)
        made = [pod for one in workload.replicas(key.name, existing) for pod in one.pods]
        wanted = workload.revision(pods)
        change = Change(
            wanted=wanted,
            live=None if live is None else workload.live_revision(live),
            is_paused=live is not None and workload.is_held(live),
            has_others=any(each.revision != wanted for each in every),
        )
        is_held = self._turns.must_wait(key, change)
        # What waits is seen with the eyes of the revision that serves on.
        told = observed.resource.get("status", {}).get("revision")
        seen = self._startups.follow(key, fleet(told if is_held and told else wanted, every))
        before = None if live is None else workload.wanted(live)
        scaling = self._scaled(key, spec, seen, before)
        replicas = spec.replicas if scaling is None else scaling.replicas
        how_before = None if live is None else workload.replacement(live)
        refusal = None
        times = (pod.made_at for pod in made if pod.revision == wanted and pod.made_at is not None)
        if len(seen.ready_current) < replicas:
            refusal = node_refusals.refusal(made, wanted, spec.resources.gpu_resource, now)
        unmade = None
        # Of a former revision it is no verdict on this one.
        if live is not None and change.live == wanted:
            unmade = workload.finding(live, observed.makers, observed.pods, observed.refusals)
        is_replacing = not is_held and live is not None and workload.is_replacing(live)
        how = replacement(
            spec, how_before, seen, unmade or refusal, replicas, now, is_replacing=is_replacing
        )
        answering, own = workload.answering_labels, workload.own_labels
        context = RenderContext(pods, replicas, how, answering, own, is_held)
        gpus, first_made = sum(pod.gpus for pod in made), min(times, default=None)
        preempted = preemption.remark(made, wanted)
        return Decided(
            workload,
            context,
            labelled,
            seen,
            gpus,
            scaling,
            change,
            before,
            refusal,
            first_made,
            preempted,
        )

    def _scaled(
        self, key: ObjectKey, spec: LLMDeploymentSpec, seen: Fleet, before: int | None
    ) -> Decision | None:
        if spec.autoscaling is None:
            self._autoscaler.forget(key)
            return None
        current = spec.autoscaling.min_replicas if before is None else before
        return self._autoscaler.decide(key, spec, seen, current, self._steady_clock())


def _pod_context(
    observed: Observed, spec: LLMDeploymentSpec, installation: Installation
) -> PodContext:
    owner = owner_of(observed.resource)
    key = cache.key_in_use(observed.children, spec.model.cache, owner)
    kept = observed.children.get(key)
    return PodContext(
        owner,
        spec,
        installation,
        is_claim_of_one_node=any(cache.is_of_one_node(each) for each in observed.claims),
        cache_key=key,
        is_cache_of_one_node=None if kept is None else cache.is_of_one_node(kept),
    )
