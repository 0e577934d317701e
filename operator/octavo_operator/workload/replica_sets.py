"""ReplicaSets: what stands between a Deployment and its pods, and why the current one makes none. Pure.

A Deployment keeps the first refusal that it heard of until it hears of none: after the spec was corrected it
tells what is mended, while the pods of the new revision may be refused for another reason. Each ReplicaSet
has a condition of its own, the first refusal of its pods; the newest makes those of the revision in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from octavo_operator.manifest import Manifest, current_conditions, is_owned_by
from octavo_operator.pods import time_of

_NUMBER_ANNOTATION = "deployment.kubernetes.io/revision"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def is_refused(deployment: Manifest) -> bool:
    """Whether pods of one of its ReplicaSets are refused."""
    return _of_pods(current_conditions(deployment)) is not None


def refusal(deployment: Manifest, replica_sets: Sequence[Manifest] | None) -> Manifest | None:
    """The condition that tells why there are no pods, if something refuses them.

    Args:
        replica_sets: Those that have the labels of its pods; None where they are not known, and the
            Deployment's own condition is all that there is.
    """
    told = _of_pods(current_conditions(deployment))
    if told is None:
        return _of_the_set_itself(deployment)
    uid = deployment["metadata"].get("uid", "")
    ours = [each for each in replica_sets or () if is_owned_by(each, uid)]
    if not ours:
        return told
    newest, *former = sorted(ours, key=_number, reverse=True)
    if (found := _of_pods(_conditions(newest))) is not None:
        return found
    # What was refused before the newest was made may be what it corrects.
    since = datetime.fromisoformat(newest["metadata"]["creationTimestamp"])
    refused = (_of_pods(_conditions(each)) for each in former)
    later = (each for each in refused if each is not None and (time_of(each) or _LONG_AGO) > since)
    return next(later, None)


def _of_pods(conditions: Iterable[Manifest]) -> Manifest | None:
    failures = (each for each in conditions if each["type"] == "ReplicaFailure")
    return next((each for each in failures if each["status"] == "True"), None)


def _of_the_set_itself(deployment: Manifest) -> Manifest | None:
    """That the ReplicaSet of this spec is refused. A controller that cannot make it does not note the
    generation that it has seen; once it does, what it told is over."""
    status = deployment.get("status", {})
    if status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0):
        return None
    for each in _conditions(deployment):
        if each.get("reason") == "ReplicaSetCreateError":
            # It went over to that maybe from another failure, which is no transition.
            return {**each, "lastTransitionTime": each.get("lastUpdateTime")}
    return None


def _conditions(manifest: Manifest) -> Sequence[Manifest]:
    return tuple(manifest.get("status", {}).get("conditions", ()))


def _number(replica_set: Manifest) -> int:
    """Counts up with each rollout, also with one that goes back to an earlier ReplicaSet."""
    text = replica_set["metadata"].get("annotations", {}).get(_NUMBER_ANNOTATION, "")
    return int(text) if text.isdecimal() else 0
