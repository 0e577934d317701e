"""Images. Which ones the replicas of one revision run, where a tag moved between their starts. Pure.

A tag that is pushed anew changes no template: a pod that starts later, or on another node, runs other code
under the same revision. Who builds for several architectures may see several digests of one tag by right, so
it is no alarm.
"""

from __future__ import annotations

from octavo_operator.listing import parted
from octavo_operator.replicas import Fleet


def difference(seen: Fleet) -> str:
    """What is said of replicas that answer and run different images; empty where they run one."""
    pods: dict[str, list[str]] = {}
    for pod in (each.leader for each in seen.ready_current):
        if pod.image:
            pods.setdefault(pod.image, []).append(pod.name)
    if len(pods) < 2:
        return ""
    return (
        f"replicas run different images of one tag: {parted(dict(sorted(pods.items())))}; "
        "spec.runtime.version DIGEST has all run one"
    )
