"""Apply. Carries a plan out: the one place where children are written. A child that is refused does not stop
the others, but a name that is taken stops them all: pods must not run under somebody else's objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from octavo_operator import claims
from octavo_operator.api.conditions import Reason
from octavo_operator.drift import drifted, first_drift
from octavo_operator.findings import Finding, shortened
from octavo_operator.kube import Kube, KubeError
from octavo_operator.listing import listed
from octavo_operator.manifest import DEPLOYMENT, ChildKey, Manifest, writers
from octavo_operator.overruled import REMEDY
from octavo_operator.plan import Action, ActionType
from octavo_operator.render import cache, service
from octavo_operator.repair import is_blocked

log = structlog.get_logger()


@dataclass(slots=True)
class Applied:
    """What became of a plan."""

    live: dict[ChildKey, Manifest | None] = field(default_factory=dict)
    """The children as the API server answered; None for what does not stand any more."""
    problem: Finding | None = None
    """What was in the way, with the reason of the first of it."""
    service_problem: Finding | None = None
    """Why the users' Service does not lead to the pods, if it does not."""
    notice: Finding | None = None
    """What was refused though nothing suffers from it."""
    was_refused: bool = False
    """Whether something stands in the way that may go without telling us."""
    lost_race: KubeError | None = None
    """Somebody else was faster: what was planned for a child is out of date."""

    def tell(self, problem: Finding, *, concerns_service: bool) -> None:
        self.was_refused = True
        if self.problem is None:
            self.problem = problem
        else:
            told = shortened(f"{self.problem.message}; {problem.message}")
            self.problem = Finding(self.problem.reason, told)
        if concerns_service:
            self.service_problem = problem


async def apply(kube: Kube, actions: Sequence[Action], *, tells_faults: bool = False) -> Applied:
    """Carries the actions out in their order. Raises KubeError for what may pass by itself, unless that is
    to be told as a refusal is: a webhook that nobody answers for may stay so, and the pods are to be seen."""
    conflicts = [action for action in actions if action.type is ActionType.CONFLICT]
    if conflicts:
        problem = _conflict(conflicts)
        is_led = all(_leads_to_pods(each, each.live) for each in actions if each.key == service.KEY)
        unled = None if is_led else problem
        return Applied(problem=problem, service_problem=unled, was_refused=True)
    applied = Applied()
    for action in actions:
        if action.type is ActionType.WAIT:
            applied.tell(_terminating(action), concerns_service=action.key == service.KEY)
            continue
        try:
            live = await _carry_out(kube, action)
        except KubeError as error:
            if error.is_conflict and not tells_faults:
                applied.lost_race = error
                continue
            # Who loses a race for that long loses it to a webhook that answers so.
            is_told = error.is_refusal or (tells_faults and (error.is_fault or error.is_conflict))
            if error.is_namespace_terminating or not is_told:
                raise
            if notice := _ungrown(action, error):
                applied.notice, applied.was_refused = notice, True
                continue
            is_unled = action.key == service.KEY and not _leads_to_pods(action, action.live)
            applied.tell(_refused(action, error), concerns_service=is_unled)
            continue
        applied.live[action.key] = live
        if action.key == service.KEY and not _leads_to_pods(action, live):
            applied.tell(_overruled(action, live), concerns_service=True)
    return applied


async def _carry_out(kube: Kube, action: Action) -> Manifest | None:
    """The child as it stands afterwards; None when it was deleted."""
    kind, live, desired = action.key.kind, action.live, action.desired
    if action.type is ActionType.KEEP:
        return live
    log.info(
        "child",
        action=action.type.value,
        kind=kind.kind,
        key=str(action.where),
        why=action.why,
    )
    if live is not None and action.is_remade:
        await kube.delete(kind, live, spares_pods=kind == DEPLOYMENT)
        remains = await kube.get(kind, action.where.namespace, action.where.name)
        if remains is not None:
            return remains  # until what holds it lets go
    elif live is not None and action.repair:
        answer = await kube.patch(kind, live, action.repair)
        if desired is not None and is_blocked(desired, answer):
            return answer  # something has the last word on it, and the apply would be refused
    if desired is not None:
        return await kube.apply(kind, desired)
    if live is not None:
        await kube.delete(kind, live)
    return None


def _leads_to_pods(action: Action, live: Manifest | None) -> bool:
    """Whether a Service, whoever made it, routes as ours must."""
    if live is None or action.desired is None or "deletionTimestamp" in live["metadata"]:
        return False
    if service.off_the_network(live):
        return False
    return first_drift(action.desired["spec"], live.get("spec", {})) is None


def _conflict(actions: Sequence[Action]) -> Finding:
    names = ", ".join(f"{each.key.kind.kind} {each.where}" for each in actions)
    verbs = "exists and does" if len(actions) == 1 else "exist and do"
    return Finding(
        Reason.NAME_CONFLICT,
        f"{names} {verbs} not belong to this LLMDeployment, of which nothing is applied: remove "
        f"{'it' if len(actions) == 1 else 'them'}, or give the LLMDeployment another name",
    )


def _refused(action: Action, error: KubeError) -> Finding:
    said = [str(error), *_off_the_network(action, action.live)]
    return Finding(Reason.APPLY_FAILED, f"{_named(action)}: {'; '.join(said)}")


def _ungrown(action: Action, error: KubeError) -> Finding | None:
    if action.key not in cache.KEYS or action.live is None or action.desired is None:
        return None
    return claims.ungrown(action.live, action.desired, str(error))


def _terminating(action: Action) -> Finding:
    held = "; pods that mount it keep it" if action.key in cache.KEYS else ""
    return Finding(
        Reason.CHILD_TERMINATING,
        f"{_named(action)} is being deleted; another one is made when it is gone{held}",
    )


def _overruled(action: Action, live: Manifest | None) -> Finding:
    wanted = {"spec": (action.desired or {}).get("spec")}
    off = _off_the_network(action, live)
    added = [] if off else [each["path"] for each in action.repair if each["op"] == "remove"]
    fields = listed([*off, *drifted(wanted, live or {}), *(f"{each} added" for each in added)])
    others = writers(live) if live is not None else []
    by = f" (others that wrote: {', '.join(others)})" if others else ""
    return Finding(
        Reason.CONTESTED,
        f"{_named(action)} is not what was applied ({fields}): something in the cluster changes "
        f"it{by}; {action.held or REMEDY}",
    )


def _off_the_network(action: Action, live: Manifest | None) -> list[str]:
    found = service.off_the_network(live) if action.key == service.KEY and live else []
    return [f"kube-proxy brings it no request for its label {each}" for each in found]


def _named(action: Action) -> str:
    return f"{action.key.kind.kind} {action.where.name}"
