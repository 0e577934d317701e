"""Claims of volumes: what they hold against the spec, or against pods to come. Pure.

A claim's own status alone says what its storage driver cannot do: the pods serve on with the volume that they
have, and without a word the cache would never be as large as the spec says.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from octavo_operator.api.conditions import Reason
from octavo_operator.api.quantity import parse_quantity
from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.api.v1alpha1.model import CacheSpec
from octavo_operator.findings import Finding, shortened
from octavo_operator.manifest import Manifest, ObjectKey
from octavo_operator.render.cache import asked, held, misfit
from octavo_operator.sightings import Sightings

GROWTH_PATIENCE_SECONDS = 120.0
"""How long a driver may fail, or a node take to grow a file system, before it is worth a word."""

_INFEASIBLE = ("ControllerResizeInfeasible", "NodeResizeInfeasible")
_ERRORS = ("ControllerResizeError", "NodeResizeError")
_UNRESIZABLE = "only dynamically provisioned pvc can be resized"
_PENDING = "FileSystemResizePending"


def dying(claims: Iterable[Manifest | None], spec: LLMDeploymentSpec) -> Finding | None:
    """What is to be said of the user's claims that `pvc://` names."""
    for claim in claims:
        if claim is not None and "deletionTimestamp" in claim["metadata"]:
            name = claim["metadata"]["name"]
            field = "model" if name == spec.model.claim else "engine.speculative.model"
            return Finding(
                Reason.VOLUME_UNAVAILABLE,
                f"claim {name} is being deleted: the pods that mount it serve on, and no other can start; "
                f"name another claim in spec.{field}.uri",
            )
    return None


def unchangeable(live: Manifest | None, wanted: CacheSpec | None) -> Finding | None:
    """What the spec asks for otherwise than the cache's claim has it."""
    why = misfit(live, wanted)
    return Finding(Reason.CACHE_IMMUTABLE, f"{why}, which a volume cannot change") if why else None


def ungrown(live: Manifest, desired: Manifest, answer: str) -> Finding | None:
    """Why the cache's claim may not even ask for more, if it is that which the API server `answer`s."""
    if _UNRESIZABLE not in answer:
        return None
    has = asked(live)
    return Finding(
        Reason.CACHE_RESIZE_FAILED,
        shortened(
            f"{_short(live, has, asked(desired))}, and its storage class lets no volume grow: put the old "
            f"size back, {has} ({answer})"
        ),
    )


def _short(claim: Manifest, has: str, wanted: str) -> str:
    name = claim["metadata"]["name"]
    return f"claim {name} has {has} and not the {wanted} of spec.model.cache.size"


def growth(
    sightings: Sightings,
    key: ObjectKey,
    live: Manifest | None,
    wanted: CacheSpec | None,
    told: Container[str],
    now: float,
    *,
    has_pods: bool,
) -> tuple[Finding | None, float | None]:
    """Why the cache's volume does not grow to the size that the spec asks for, and the seconds until there is
    more to be said.

    Args:
        told: The reasons that the status carries.
        now: Seconds on a steady clock.
        has_pods: Whether any mount it: file systems grow where they are mounted.
    """
    is_final, why = _hindrance(live, wanted, has_pods=has_pods)
    was_told = is_final or Reason.CACHE_RESIZE_FAILED in told
    # Not by what the driver says, which may be another thing each time.
    seen = ["growth"] if why else []
    lasting, wait = sightings.lasting(key, "growth", seen, now, was_told=was_told)
    return (Finding(Reason.CACHE_RESIZE_FAILED, why) if lasting else None), wait


def _hindrance(
    live: Manifest | None, wanted: CacheSpec | None, *, has_pods: bool
) -> tuple[bool, str]:
    """Whether the driver has given up, and what is in the way; empty where nothing is."""
    has = held(live) if live is not None else ""
    if live is None or wanted is None or not has:
        return False, ""
    if parse_quantity(wanted.size) <= parse_quantity(has):
        return False, ""
    status = live["status"]
    conditions = {
        each["type"]: each.get("message", "")
        for each in status.get("conditions", ())
        if each.get("status") == "True"
    }
    what = _short(live, has, wanted.size)
    error = next((each for each in _ERRORS if each in conditions), "")
    words = f" ({error}: {conditions[error]})" if error else ""
    if status.get("allocatedResourceStatuses", {}).get("storage") in _INFEASIBLE:
        return True, shortened(
            f"{what}, which its storage driver cannot give: ask for a size above {has} that it can, or for "
            f"{has} as it is{words}"
        )
    if error:
        return False, shortened(
            f"{what}: its storage driver fails to grow it, and tries again{words}"
        )
    if _PENDING in conditions and has_pods:
        return False, (
            f"{what}: the volume has grown, and its file system does when a pod that mounts it starts; "
            "`kubectl rollout restart` of the Deployment starts them anew"
        )
    return False, ""
