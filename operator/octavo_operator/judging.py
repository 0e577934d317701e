"""Judging: what a pass found of one object once the plan was carried out, as the status is to tell it.

It stands between what was done and `status.py`. Nothing is done here; what takes too long is remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from octavo_operator import adapters, admission, claims, images, retries
from octavo_operator.api.conditions import ConditionType, Reason
from octavo_operator.api.quantity import duration_seconds
from octavo_operator.api.v1alpha1 import ineffective_fields
from octavo_operator.apply import Applied
from octavo_operator.autoscale.controller import Autoscaler
from octavo_operator.commits import Commits, difference
from octavo_operator.condition_set import ConditionSet
from octavo_operator.deciding import Decided
from octavo_operator.endpoints import PROPAGATION_SECONDS, Led
from octavo_operator.endpoints import judge as judge_endpoints
from octavo_operator.findings import Finding
from octavo_operator.manifest import Manifest, ObjectKey, key_of
from octavo_operator.observing import Observed
from octavo_operator.overruled import Overruled
from octavo_operator.render import PodContext, cache
from octavo_operator.render.api_keys import ENVIRONMENT_REMARK
from octavo_operator.replicas import setup_patience_left
from octavo_operator.rollout import overdue, patience_left
from octavo_operator.sightings import Sightings
from octavo_operator.status import Observation, settlement
from octavo_operator.turns import Turns

_RETRY_REFUSED_SECONDS = 30.0
"""After the API server refused a child or a pod: quotas and policies change without telling us, and who makes
the pods is not followed."""
_UNTOLD_SECONDS = 5.0
"""While pods are refused and none of the newest revision is yet: its first may be any moment."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the status is to tell, and when to look again."""

    observation: Observation
    is_rolling: bool
    """Whether the pods are on their way to the wanted revision, and not given up."""
    waits: tuple[float | None, ...]
    """Seconds until there is more to be said of each thing that may take its time; None: there is none."""


class Judge:
    """For one object at a time; what it remembers is of those that it was given."""

    def __init__(
        self,
        autoscaler: Autoscaler,
        turns: Turns,
        commits: Commits,
        held_adapters: adapters.Adapters,
        overruled: Overruled,
        steady_clock: Callable[[], float],
    ) -> None:
        self._autoscaler = autoscaler
        self._turns = turns
        self._commits = commits
        self._adapters = held_adapters
        self._overruled = overruled
        self._sightings = Sightings(PROPAGATION_SECONDS)
        self._growing = Sightings(claims.GROWTH_PATIENCE_SECONDS)
        self._starting = Sightings(retries.PATIENCE_SECONDS)
        self._mixed = Sightings(adapters.PATIENCE_SECONDS)
        self._steady_clock = steady_clock

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._sightings.forget(key)
        self._growing.forget(key)
        self._starting.forget(key)
        self._mixed.forget(key)

    def judge(
        self,
        observed: Observed,
        decided: Decided,
        applied: Applied,
        contest: Finding | None,
        conditions: ConditionSet,
    ) -> Judged:
        key, context, seen = key_of(observed.resource), decided.context, decided.fleet
        live = applied.live.get(decided.workload.key)
        told = _told(live, observed, decided, conditions)
        led = self._led(observed, decided, conditions)
        notice, growth_wait = self._notice(observed, decided, applied, conditions)
        moved = self._moved(decided, conditions, is_replacing=told.is_replacing)
        mixed, mixed_wait = self._mixed_adapters(decided, conditions)
        graver = applied.problem or contest or led.problem or told.refusal
        is_young, young_wait = retries.is_young(
            self._starting,
            key,
            seen.finding(),
            seen,
            self._steady_clock(),
            was_alarm=conditions.was_true(ConditionType.DEGRADED),
        )
        observation = Observation(
            key=key,
            generation=conditions.generation,
            spec=context.spec,
            fleet=seen,
            gpus=decided.gpus,
            desired_replicas=context.replicas,
            autoscaling=self._autoscaler.view(
                key,
                context.spec,
                seen,
                decided.scaling,
                conditions.now,
                conditions.message_before(Reason.METRICS_UNAVAILABLE),
            ),
            problem=graver or seen.finding(),
            is_young=is_young and graver is None,
            service_problem=applied.service_problem or led.problem,
            unreached=led.unreached,
            notice=led.notice or notice or moved or mixed,
            is_deadline_exceeded=told.is_overdue,
            is_replacing=told.is_replacing,
            queued=self._turns.why(decided.change) if context.is_held else "",
            settled=settlement(observed.resource),
            remark=_remark(
                context.pods,
                self._overruled.remark(key),
                images.difference(seen),
                admission.difference(
                    {each.leader.name: each.leader.admitted for each in seen.ready_current}
                ),
                decided.preempted,
            ),
        )
        waits = (
            *told.waits,
            setup_patience_left(seen, conditions.now),
            led.wait,
            growth_wait,
            young_wait,
            mixed_wait,
            _RETRY_REFUSED_SECONDS if applied.was_refused else None,
        )
        return Judged(observation, _is_rolling(observation, decided, live), waits)

    def _led(self, observed: Observed, decided: Decided, conditions: ConditionSet) -> Led:
        """Whether the Service leads to the pods."""
        return judge_endpoints(
            self._sightings,
            key_of(observed.resource),
            observed.slices,
            decided.fleet,
            decided.pods,
            conditions.reasons_before(),
            self._steady_clock(),
        )

    def _notice(
        self, observed: Observed, decided: Decided, applied: Applied, conditions: ConditionSet
    ) -> tuple[Finding | None, float | None]:
        """What of claims and policies a person should look at, and the seconds until there is more to be said
        of the cache's claim."""
        key, spec, seen = key_of(observed.resource), decided.context.spec, decided.fleet
        kept = observed.children[decided.context.pods.cache_key or cache.KEY]
        growth, wait = claims.growth(
            self._growing,
            key,
            kept,
            spec.model.cache,
            conditions.reasons_before(),
            self._steady_clock(),
            has_pods=bool(seen.replicas),
        )
        notice = (
            claims.dying(observed.claims, spec)
            or claims.unchangeable(kept, spec.model.cache)
            or growth
            or applied.notice
            or self._overruled.notice(key)
        )
        return notice, wait

    def _moved(
        self, decided: Decided, conditions: ConditionSet, *, is_replacing: bool
    ) -> Finding | None:
        """That replicas serve different models. While they are replaced it is no news: a restart is how all
        come to serve the new one."""
        model, key = decided.context.spec.model, decided.context.owner.key
        told = conditions.message_before(Reason.MODEL_COMMITS_DIFFER)
        found = difference(model, self._commits.follow(key, model, decided.fleet), told)
        return found if told or not is_replacing else None

    def _mixed_adapters(
        self, decided: Decided, conditions: ConditionSet
    ) -> tuple[Finding | None, float | None]:
        """That replicas have different adapters for longer than it takes to load them into each, and the
        seconds until that is so."""
        key, engine = decided.context.owner.key, decided.context.spec.engine
        held = self._adapters.follow(key, decided.fleet, takes_some=bool(engine.enable_lora))
        told = conditions.message_before(Reason.ADAPTERS_DIFFER)
        topics = ["adapters"] if adapters.is_mixed(held) else []
        lasting, wait = self._mixed.lasting(
            key, "adapters", topics, self._steady_clock(), was_told=bool(told)
        )
        return adapters.difference(held, lasting, told), wait


@dataclass(frozen=True, slots=True)
class _Told:
    """What the workload says of its pods, and the nodes."""

    refusal: Finding | None
    """Why none can be made, or none run."""
    is_overdue: bool
    is_replacing: bool
    waits: tuple[float | None, ...]


def _told(
    live: Manifest | None, observed: Observed, decided: Decided, conditions: ConditionSet
) -> _Told:
    workload, context, now = decided.workload, decided.context, conditions.now
    if live is None:
        patience = patience_left(decided.fleet, decided.refusal, now)
        return _Told(decided.refusal, is_overdue=False, is_replacing=False, waits=(patience,))
    unmade = workload.finding(live, observed.makers, observed.pods, observed.refusals)
    is_refused = workload.is_refused(live)
    refusal = unmade or decided.refusal
    is_overdue, overdue_wait = overdue(
        workload.given_up_since(live),
        decided.first_made,
        duration_seconds(context.spec.rollout.progress_deadline),
        now,
        unmade_since=workload.unmade_since(live, observed.makers),
    )
    refused_wait = _UNTOLD_SECONDS if is_refused else None
    return _Told(
        refusal,
        is_overdue,
        is_replacing=not context.is_held and workload.is_replacing(live),
        waits=(
            patience_left(decided.fleet, refusal, now),
            overdue_wait,
            _RETRY_REFUSED_SECONDS if unmade else refused_wait,
        ),
    )


def _remark(pods: PodContext, *others: str) -> str:
    keys = ENVIRONMENT_REMARK if pods.has_keys_in_environment else ""
    return "; ".join(part for part in (keys, ineffective_fields(pods.spec), *others) if part)


def _is_rolling(seen: Observation, decided: Decided, live: Manifest | None) -> bool:
    workload, wanted = decided.workload, decided.change.wanted
    if live is None or workload.live_revision(live) != wanted or workload.is_held(live):
        return False
    is_over = (
        not decided.change.has_others
        and not seen.is_replacing
        and len(seen.fleet.ready_current) >= seen.required_replicas
    )
    return not is_over and not seen.is_deadline_exceeded
