"""Retries: what keeps pods from starting and is tried again by itself, and when it is an alarm. Pure.

A registry that does not answer once, a Secret that comes a moment after the object, a download that breaks
off and begins anew: `Ready` says so at once, and a person is asked for when it stays so. What does not mend
by itself, such as a model that does not exist, is an alarm from the beginning.
"""

from __future__ import annotations

from octavo_operator.api.conditions import Reason
from octavo_operator.findings import Finding
from octavo_operator.manifest import ObjectKey
from octavo_operator.replicas import Fleet
from octavo_operator.sightings import Sightings

PATIENCE_SECONDS = 20.0
"""How long it may take: the kubelet tries again after ten seconds, and then after twenty more."""

_RETRIED = frozenset(
    {
        Reason.IMAGE_PULL_FAILED,
        Reason.SECRET_NOT_FOUND,
        Reason.CONTAINER_CONFIG_INVALID,
        Reason.DOWNLOAD_FAILED,
        Reason.INTERNAL_ERROR,
        Reason.CRASHING,
        Reason.INSUFFICIENT_GPU,
        Reason.VOLUME_UNAVAILABLE,
        Reason.UNSCHEDULABLE,
    }
)


def is_young(
    sightings: Sightings,
    key: ObjectKey,
    found: Finding | None,
    seen: Fleet,
    now: float,
    *,
    was_alarm: bool,
) -> tuple[bool, float | None]:
    """Whether what keeps the pods is no alarm yet, and the seconds until it is one. A container that runs
    again may come to its end this time, however long that takes.

    Args:
        found: The gravest of the findings of the pods.
        now: Seconds on a steady clock.
        was_alarm: Whether something was one before, as before a restart.
    """
    kept = [
        pod
        for pod in seen.current_pods
        if found is not None and pod.finding is not None and pod.finding.reason is found.reason
    ]
    is_retried = found is not None and found.reason in _RETRIED
    # A node that sets a pod up has had its time before that was a finding; more of what serves have more.
    is_timed = any(pod.setup_since is not None for pod in kept) or (
        found is not None and found.is_shortage and bool(seen.ready)
    )
    if found is None or not is_retried or is_timed:
        sightings.lasting(key, "pods", (), now)
        return False, None
    lasting, wait = sightings.lasting(key, "pods", [found.reason], now, was_told=was_alarm)
    runs_again = all(pod.run is not None for pod in kept)
    return not lasting or (runs_again and not was_alarm), wait
