"""Apply. Carries a plan out: the one place where children are written. A child that is refused does not stop
the others, but a name that is taken stops them all: pods must not run under somebody else's objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from octavo_operator.api.conditions import Reason
from octavo_operator.kube import Kube, KubeError
from octavo_operator.manifest import ChildKey, Manifest
from octavo_operator.plan import Action, ActionType, first_drift
from octavo_operator.pods import Finding
from octavo_operator.render import service

log = structlog.get_logger()

Observed = Mapping[ChildKey, Manifest | None]
"""Every child as it was when the pass began."""


@dataclass(slots=True)
class Applied:
    """What became of a plan."""

    live: dict[ChildKey, Manifest] = field(default_factory=dict)
    """The children that stand now, as the API server answered."""
    problem: Finding | None = None
    """The first thing that was in the way."""
    service_problem: Finding | None = None
    """Why the users' Service does not lead to the pods, if it does not."""
    was_refused: bool = False


async def apply(kube: Kube, actions: Sequence[Action], observed: Observed) -> Applied:
    """Carries the actions out in their order. Raises KubeError for what may pass by itself."""
    conflicts = [action for action in actions if action.type is ActionType.CONFLICT]
    if conflicts:
        problem = _conflict(conflicts[0])
        is_led = all(_leads_to_pods(each, observed) for each in actions if each.key == service.KEY)
        return Applied({}, problem, None if is_led else problem, was_refused=True)
    applied = Applied()
    for action in actions:
        try:
            live = await _carry_out(kube, action)
        except KubeError as error:
            if error.is_namespace_terminating or not error.is_refusal:
                raise
            applied.was_refused = True
            problem = _refused(action, error)
            applied.problem = applied.problem or problem
            if action.key == service.KEY and not _leads_to_pods(action, observed):
                applied.service_problem = problem
            continue
        if action.type is not ActionType.DELETE:
            applied.live[action.key] = live
    return applied


async def _carry_out(kube: Kube, action: Action) -> Manifest:
    if action.type is ActionType.KEEP:
        return action.manifest
    metadata = action.manifest["metadata"]
    log.info(
        "child",
        action=action.type.value,
        kind=action.key.kind.kind,
        key=f"{metadata['namespace']}/{metadata['name']}",
        why=action.why,
    )
    if action.type is ActionType.DELETE:
        await kube.delete(action.key.kind, action.manifest)
        return action.manifest
    return await kube.apply(action.key.kind, action.manifest)


def _leads_to_pods(action: Action, observed: Observed) -> bool:
    """Whether the Service that is live is ours and routes as it must, even without this action."""
    live = observed[service.KEY]
    if action.type is ActionType.CONFLICT or live is None:
        return False
    return first_drift(action.manifest["spec"], live["spec"]) is None


def _conflict(action: Action) -> Finding:
    metadata = action.manifest["metadata"]
    return Finding(
        Reason.NAME_CONFLICT,
        f"{action.key.kind.kind} {metadata['namespace']}/{metadata['name']} exists and does not "
        "belong to this LLMDeployment",
    )


def _refused(action: Action, error: KubeError) -> Finding:
    return Finding(Reason.APPLY_FAILED, f"{action.key.kind.kind} {action.name}: {error}")
