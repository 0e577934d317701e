"""Plan. Pure `(observed, desired) → actions with reasons`: what a reconcile is about to do, and why.

Applying what is already there is a no-op on the API server, so a wrong "unchanged" is the only
mistake that matters. A child counts as unchanged only when the hash of its manifest is the one that
was applied, every field of the manifest still has its value in the cluster, and nobody added any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from octavo_operator.api import v1alpha1
from octavo_operator.drift import Path, applied_beside, first_drift, is_of_an_apply
from octavo_operator.manifest import (
    DEPLOYMENT,
    Child,
    ChildKey,
    Manifest,
    ObjectKey,
    controller_of,
    is_owned_by,
)
from octavo_operator.names import HASH_ANNOTATION
from octavo_operator.render import Owner
from octavo_operator.render.cache import KEYS as MODEL_CACHES
from octavo_operator.render.cache import as_it_can_be
from octavo_operator.render.metadata import is_orphan
from octavo_operator.render.service import KEY as SERVICE
from octavo_operator.render.service import is_headless, off_the_network
from octavo_operator.render.service_account import KEY as SERVICE_ACCOUNT
from octavo_operator.repair import Operation, foreign, pointer, repair

_SHARED = frozenset({*MODEL_CACHES, SERVICE_ACCOUNT})
"""Children that Kubernetes itself completes: a claim's volume, an account's secrets."""

_OF_CLOUDS = frozenset({("spec", "loadBalancerIP"), ("spec", "loadBalancerClass")})
"""Fields of a load balancer's Service that its controller fills in."""
_OF_NETWORKS = frozenset({("spec", "ipFamilyPolicy"), ("spec", "ipFamilies")})
"""Fields of a Service that Kubernetes keeps whoever takes them out."""


class ActionType(StrEnum):
    """What happens to one child."""

    KEEP = "keep"
    APPLY = "apply"
    DELETE = "delete"
    CONFLICT = "conflict"
    WAIT = "wait"
    """It is on its way out; another one is made when it is gone."""


@dataclass(frozen=True, slots=True)
class Action:
    """One child and what to do with it."""

    type: ActionType
    key: ChildKey
    where: ObjectKey
    live: Manifest | None
    """As it is, if it is there."""
    desired: Manifest | None
    """As it is to be; None when it is to be deleted."""
    why: str
    repair: tuple[Operation, ...] = ()
    """What undoes what others added to it, before it is applied."""
    is_remade: bool = False
    """Whether what stands there goes first: no update makes ours of it."""
    undoes: bool = False
    """Whether it writes over what somebody else did since it was applied last."""
    held: str = ""
    """Of what is left for now: what users may do about it, and when it is tried again."""

    def kept(self, held: str) -> Action:
        """The same child left as it is for now."""
        return replace(self, type=ActionType.KEEP, undoes=False, held=held)


def plan(
    observed: Mapping[ChildKey, Manifest | None], desired: Sequence[Child], owner: Owner
) -> list[Action]:
    """One action for each desired child and each owned child that is no longer desired.

    `observed` holds the live object under the name that each child has. An object of that name that
    somebody else made is a conflict: it is neither taken over nor deleted.
    """
    actions = [_for_desired(observed.get(each.key), each, owner) for each in desired]
    wanted = {each.key for each in desired}
    actions += [
        Action(ActionType.DELETE, key, _where(live), live, None, "no longer in the spec")
        for key, live in observed.items()
        if live is not None
        and key not in wanted
        and is_owned_by(live, owner.uid)
        and "deletionTimestamp" not in live["metadata"]
    ]
    return actions


def _for_desired(live: Manifest | None, child: Child, owner: Owner) -> Action:
    key, manifest = child.key, child.manifest
    if key in MODEL_CACHES and live is not None:
        manifest = as_it_can_be(live, manifest)

    def action(type_: ActionType, why: str) -> Action:
        return Action(type_, key, _where(manifest), live, manifest, why)

    def undoing(why: str, undo: tuple[Operation, ...] = ()) -> Action:
        return replace(action(ActionType.APPLY, why), repair=undo, undoes=True)

    if live is None:
        return action(ActionType.APPLY, "missing")
    is_ours = is_owned_by(live, owner.uid)
    if not is_ours and (others := _of_others(live, owner)):
        return action(*others)
    if "deletionTimestamp" in live["metadata"]:
        return action(ActionType.WAIT, "on its way out")
    if not is_ours:
        return undoing("ours, but nobody's any more")
    if fixed := _made_otherwise(child, live):
        return replace(undoing(f"{fixed} is another, and cannot be changed"), is_remade=True)
    undo, why = _undo(child, manifest, live)
    if undo:
        return undoing(why, undo)
    why, is_undoing = _difference(child, manifest, live)
    if why:
        return undoing(why) if is_undoing else action(ActionType.APPLY, why)
    return action(ActionType.KEEP, "unchanged")


def _difference(child: Child, manifest: Manifest, live: Manifest) -> tuple[str, bool]:
    """Why an apply is wanted, and whether it writes over what somebody else did; empty where none is."""
    if not any(map(is_of_an_apply, live["metadata"].get("managedFields", ()))):
        # Who took the record of the writers away may have written anything; an apply begins it anew.
        return "what of it is ours was forgotten", True
    applied = live["metadata"].get("annotations", {}).get(HASH_ANNOTATION)
    if applied != manifest["metadata"]["annotations"][HASH_ANNOTATION]:
        return "the manifest changed", False
    if child.key not in _SHARED and (beside := applied_beside(manifest, live)):
        return f"{pointer(beside[0])} was added under our name", True
    drift = first_drift(manifest, live)
    return f"{drift} was changed by somebody else" if drift else "", True


def _undo(child: Child, manifest: Manifest, live: Manifest) -> tuple[tuple[Operation, ...], str]:
    """What undoes what others did to it beyond what an apply puts back, and why; nothing where nobody did, or
    where Kubernetes itself completes the child."""
    if child.key in _SHARED:
        return (), ""
    if child.key == SERVICE and (off := off_the_network(live)):
        remove = ({"op": "remove", "path": pointer(("metadata", "labels", each))} for each in off)
        return tuple(remove), f"label {off[0]} was added"
    left = _left_to_others(child)
    undo = repair(manifest, live, left)
    if not undo:
        return (), ""
    # Named from the live object: where its whole field is put back, the patch removes nothing.
    added = foreign(manifest, live, left)
    where = pointer(added[0]) if added else first_drift(manifest, live)
    # What a repair put back in whole has its defaults under our name, too.
    return undo, f"{where} was {'added' if added else 'changed by somebody else'}"


def _made_otherwise(child: Child, live: Manifest) -> str:
    """The field by which somebody made it in our place, that nobody can change; empty where there is none."""
    if child.key == SERVICE and is_headless(live):
        return "clusterIP"
    if (
        child.key.kind == DEPLOYMENT
        and live["spec"]["selector"] != child.manifest["spec"]["selector"]
    ):
        return "selector"
    return ""


def _left_to_others(child: Child) -> frozenset[Path]:
    """What others may add to the spec of the child."""
    if child.key != SERVICE:
        return frozenset()
    is_balanced = child.manifest["spec"]["type"] == "LoadBalancer"
    return _OF_NETWORKS | _OF_CLOUDS if is_balanced else _OF_NETWORKS


def _where(manifest: Manifest) -> ObjectKey:
    return ObjectKey(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _of_others(live: Manifest, owner: Owner) -> tuple[ActionType, str] | None:
    """What is done about a child that we do not control, and why; None where it may be taken over."""
    controller = controller_of(live) or {}
    if (controller.get("kind"), controller.get("name")) == (v1alpha1.KIND, owner.name):
        # One was deleted and made anew, and Kubernetes has not taken the children of the former yet.
        return ActionType.WAIT, "of a former object of this name, and soon collected"
    if not is_orphan(live, owner):
        return ActionType.CONFLICT, "belongs to somebody else"
    return None
