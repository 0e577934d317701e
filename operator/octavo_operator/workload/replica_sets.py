"""ReplicaSets: what stands between a Deployment and its pods, and why the current one makes none. Pure.

A Deployment keeps the first refusal that it heard of until it hears of none: after the spec was corrected it
tells what is mended, while the pods of the new revision may be refused for another reason. Each ReplicaSet
has a condition of its own; the newest makes those of the revision in force. A ReplicaSet keeps the first
refusal of its pods as well: what they are refused for now is in its Events (`refusals`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from octavo_operator.manifest import Manifest, current_conditions, is_owned_by
from octavo_operator.names import REVISION_LABEL
from octavo_operator.pods import time_of
from octavo_operator.workload.refusals import LONG_AGO, Refusal, refusal_of

_NUMBER_ANNOTATION = "deployment.kubernetes.io/revision"


def is_refused(deployment: Manifest) -> bool:
    """Whether it tells of pods that are refused, or of a ReplicaSet, which may be over."""
    pods = _of_pods(current_conditions(deployment))
    return pods is not None or _of_a_set(deployment) is not None


def refused(deployment: Manifest, replica_sets: Sequence[Manifest] | None) -> list[Manifest]:
    """What says that something of it is refused: the Deployment of a ReplicaSet, ReplicaSets of pods."""
    sets = (each for each in _owned(deployment, replica_sets) if _of_pods(_conditions(each)))
    return [*([deployment] if _of_a_set(deployment) else ()), *sets]


def refusal(
    deployment: Manifest,
    replica_sets: Sequence[Manifest] | None,
    pods: Sequence[Manifest] = (),
    events: Sequence[Manifest] = (),
) -> Refusal | None:
    """Why there are no pods, if something refuses them.

    Args:
        replica_sets: Those that have the labels of its pods; None where they are not known, and the
            Deployment's own conditions are all that there is.
        pods: Those that were there no later than these. One that has all that it wants is refused nothing any
            more, whatever it says yet.
        events: Of those that are `refused`.
    """
    told = _of_pods(current_conditions(deployment))
    if told is None:
        missing = unmade(deployment, replica_sets)
        return None if missing is None else refusal_of(deployment, missing, events)
    ours = _owned(deployment, replica_sets)
    if not ours:
        is_all = replica_sets is not None
        return Refusal(told.get("message", ""), time_of(told), is_latest=is_all)
    newest, *former = sorted(ours, key=_number, reverse=True)
    if (found := _of_pods(_conditions(newest))) is not None and not _has_all(newest, pods):
        return refusal_of(newest, found, events)
    # What was refused before the newest was made may be what it corrects.
    since = datetime.fromisoformat(newest["metadata"]["creationTimestamp"])
    for each in former:
        found = _of_pods(_conditions(each))
        if found and (time_of(found) or LONG_AGO) > since and not _has_all(each, pods):
            return refusal_of(each, found, events)
    return None


def unmade(deployment: Manifest, replica_sets: Sequence[Manifest] | None) -> Manifest | None:
    """The condition that tells why the ReplicaSet of this spec itself cannot be made, if so. It stays until
    something moves; a controller that cannot make one notes no generation, unless it had made it before."""
    told = _of_a_set(deployment)
    seen = deployment.get("status", {}).get("observedGeneration", 0)
    if told is None or seen < deployment["metadata"].get("generation", 0):
        return told
    if replica_sets is None:
        return None
    revision = _revision(deployment)
    is_there = any(_revision(each) == revision for each in _owned(deployment, replica_sets))
    return None if is_there else told


def _has_all(replica_set: Manifest, pods: Sequence[Manifest]) -> bool:
    uid = replica_set["metadata"].get("uid", "")
    mine = [each for each in pods if is_owned_by(each, uid) and not _is_over(each)]
    wanted: int = replica_set["spec"].get("replicas", 1)
    return len(mine) >= wanted


def _is_over(pod: Manifest) -> bool:
    is_done = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return is_done or "deletionTimestamp" in pod["metadata"]


def _owned(deployment: Manifest, replica_sets: Sequence[Manifest] | None) -> list[Manifest]:
    uid = deployment["metadata"].get("uid", "")
    return [each for each in replica_sets or () if is_owned_by(each, uid)]


def _of_pods(conditions: Iterable[Manifest]) -> Manifest | None:
    failures = (each for each in conditions if each["type"] == "ReplicaFailure")
    return next((each for each in failures if each["status"] == "True"), None)


def _of_a_set(deployment: Manifest) -> Manifest | None:
    for each in _conditions(deployment):
        if each.get("reason") == "ReplicaSetCreateError":
            # It went over to that maybe from another failure, which is no transition.
            return {**each, "lastTransitionTime": each.get("lastUpdateTime")}
    return None


def _conditions(manifest: Manifest) -> Sequence[Manifest]:
    return tuple(manifest.get("status", {}).get("conditions", ()))


def _revision(maker: Manifest) -> str | None:
    """What it makes, by our own label."""
    labels = maker["spec"].get("template", {}).get("metadata", {}).get("labels", {})
    revision: str | None = labels.get(REVISION_LABEL)
    return revision


def _number(replica_set: Manifest) -> int:
    """Counts up with each rollout, also with one that goes back to an earlier ReplicaSet."""
    text = replica_set["metadata"].get("annotations", {}).get(_NUMBER_ANNOTATION, "")
    return int(text) if text.isdecimal() else 0
