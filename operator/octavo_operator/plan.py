"""Plan. Pure `(observed, desired) → actions with reasons`: what a reconcile is about to do, and why.

Applying what is already there is a no-op on the API server, so a wrong "unchanged" is the only
mistake that matters. A child counts as unchanged only when the hash of its manifest is the one that
was applied and every field of the manifest still has its value in the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from octavo_operator.api.quantity import parse_quantity
from octavo_operator.manifest import Child, ChildKey, Manifest, is_owned_by
from octavo_operator.names import HASH_ANNOTATION


class ActionType(StrEnum):
    """What happens to one child."""

    KEEP = "keep"
    APPLY = "apply"
    DELETE = "delete"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Action:
    """One child and what to do with it; `manifest` is the desired one, or the live one of a delete,
    a keep or a conflict."""

    type: ActionType
    key: ChildKey
    manifest: Manifest
    why: str

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])


def plan(
    observed: Mapping[ChildKey, Manifest | None], desired: Sequence[Child], owner_uid: str
) -> list[Action]:
    """One action for each desired child and each owned child that is no longer desired.

    `observed` holds the live object under the name that each child has. An object of that name that
    somebody else made is a conflict: it is neither taken over nor deleted.
    """
    actions = [_for_desired(observed.get(each.key), each, owner_uid) for each in desired]
    wanted = {each.key for each in desired}
    actions += [
        Action(ActionType.DELETE, key, live, "no longer in the spec")
        for key, live in observed.items()
        if live is not None
        and key not in wanted
        and is_owned_by(live, owner_uid)
        and "deletionTimestamp" not in live["metadata"]
    ]
    return actions


def _for_desired(live: Manifest | None, child: Child, owner_uid: str) -> Action:
    key, manifest = child.key, child.manifest
    if live is None:
        return Action(ActionType.APPLY, key, manifest, "missing")
    if not is_owned_by(live, owner_uid):
        return Action(ActionType.CONFLICT, key, live, "belongs to somebody else")
    applied = live["metadata"].get("annotations", {}).get(HASH_ANNOTATION)
    if applied != manifest["metadata"]["annotations"][HASH_ANNOTATION]:
        return Action(ActionType.APPLY, key, manifest, "the manifest changed")
    if drift := first_drift(manifest, live):
        return Action(ActionType.APPLY, key, manifest, f"{drift} was changed by somebody else")
    return Action(ActionType.KEEP, key, live, "unchanged")


def first_drift(desired: object, live: object, path: str = "") -> str | None:
    """The path of the first field of `desired` that `live` lacks or has differently; None when all
    of it is there. Fields that only `live` has (defaults, status) do not count."""
    match desired, live:
        case dict(), dict():
            return _first(
                first_drift(value, live[key], f"{path}.{key}" if path else key)
                if key in live
                else (f"{path}.{key}" if path else key)
                # The API server drops what is empty.
                for key, value in desired.items()
                if key in live or value not in ({}, [], None)
            )
        case list(), list():
            if len(desired) != len(live):
                return path
            return _first(
                first_drift(one, other, f"{path}[{index}]")
                for index, (one, other) in enumerate(zip(desired, live, strict=True))
            )
        case _:
            return None if desired == live or _same_quantity(desired, live) else path


def _same_quantity(desired: object, live: object) -> bool:
    """The API server writes quantities in a canonical form: "0.5" comes back as "500m"."""
    if not (isinstance(desired, str) and isinstance(live, str)):
        return False
    try:
        return parse_quantity(desired) == parse_quantity(live)
    except ValueError:
        return False


def _first(drifts: Iterable[str | None]) -> str | None:
    return next((drift for drift in drifts if drift), None)
