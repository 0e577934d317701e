"""Node refusals: pods that were placed on a node which would not run them. Pure.

The scheduler counts, and the node has the last word: devices are gone, others came first, nothing fits its
topology. Such a pod fails at once and its ReplicaSet makes another, which most often fails alike: none is
there for long enough to be looked at, and a rollout would wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from octavo_operator.api.conditions import Reason
from octavo_operator.findings import Finding, shortened
from octavo_operator.pods import PodView

FRESH_SECONDS = 60.0
"""How long the last one counts: where room came, no more follow."""


def refusal(
    pods: Iterable[PodView], revision: str, gpu_resource: str, now: datetime
) -> Finding | None:
    """What the nodes say of pods of this revision, and since when; None when they run them."""
    refused = [
        (pod.made_at, pod.refused)
        for pod in pods
        if pod.refused and pod.made_at is not None and pod.revision == revision
    ]
    if not refused:
        return None
    (first, _), (last, why) = min(refused), max(refused)
    if (now - last).total_seconds() >= FRESH_SECONDS:
        return None
    reason = Reason.INSUFFICIENT_GPU if gpu_resource in why else Reason.UNSCHEDULABLE
    return Finding(reason, shortened(f"nodes refuse the pods: {why}"), first, is_shortage=True)
