"""Admission. What the cluster's admission made of pods of one template, where it is not the same. Pure.

A class of priorities or runtimes that was replaced under its name, a LimitRange that came or went, change no
template: a pod that is made later is slower, or is taken away sooner, under the same revision. Who resizes
pods (a VerticalPodAutoscaler) sees the same by right, so it is no alarm.
"""

from __future__ import annotations

from collections.abc import Mapping

from octavo_operator.listing import parted
from octavo_operator.manifest import Manifest
from octavo_operator.names import SERVE_CONTAINER


def admitted(pod: Manifest) -> dict[str, str]:
    """What admission may have set in it, by names that people know from the pod."""
    spec = pod.get("spec", {})
    containers = {each.get("name"): each for each in spec.get("containers", ())}
    resources = containers.get(SERVE_CONTAINER, {}).get("resources", {})
    found = {"priority": str(spec.get("priority", 0))}
    for field, quantities in (
        ("overhead", spec.get("overhead", {})),
        ("requests", resources.get("requests", {})),
        ("limits", resources.get("limits", {})),
    ):
        found |= {f"{field}.{name}": str(quantity) for name, quantity in quantities.items()}
    return found


def difference(pods: Mapping[str, Mapping[str, str]]) -> str:
    """What is said of pods of one revision, by their names, that were admitted differently; empty where all
    are alike.
    """
    fields = dict.fromkeys(field for each in pods.values() for field in each)
    parts = [f"{field} {parted(by)}" for field in fields if len(by := _by_value(field, pods)) > 1]
    if not parts:
        return ""
    return (
        f"the cluster admitted replicas of one revision differently: {', '.join(parts)}; pods that "
        "`kubectl rollout restart` makes anew are alike"
    )


def _by_value(field: str, pods: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, values in pods.items():
        found.setdefault(values.get(field, "none"), []).append(name)
    return dict(sorted(found.items()))
