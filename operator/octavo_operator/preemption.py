"""Preemption. Pods that the scheduler took away for others of a higher priority, as the status tells. Pure.

Who raises the priority class of a model that has no room to spare lets the pods of its new revision take that
of the old ones: nobody can forbid a pod what its class allows, and no rollout strategy holds the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo_operator.listing import listed
from octavo_operator.pods import PodView


def remark(pods: Sequence[PodView], revision: str) -> str:
    """What is said of pods that lost their room; empty where none did.

    Args:
        pods: All of the workload's, those that are on their way out too.
        revision: The one in force.
    """
    taken = [pod.name for pod in pods if pod.is_preempted]
    ours = max((pod.priority for pod in pods if pod.revision == revision), default=None)
    outranked = [
        pod
        for pod in pods
        if ours is not None
        and pod.revision != revision
        and pod.priority < ours
        and (pod.is_preempted or (pod.finding is not None and pod.finding.is_shortage))
    ]
    if outranked:
        theirs = max(pod.priority for pod in outranked)
        return (
            f"pods of this revision have a higher priority ({ours}) than those of the former ({theirs}), and "
            f"take their room as there is no other: {listed([pod.name for pod in outranked])}"
        )
    return (
        f"the scheduler took away for pods of a higher priority: {listed(taken)}" if taken else ""
    )
