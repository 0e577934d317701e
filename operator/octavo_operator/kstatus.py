"""kstatus: the conditions by which Flux, Helm, kpt and Cluster API tell how far an object of a kind is that
they do not know. Pure.

Both are of abnormal-true polarity: absent while all is as it should be. `Reconciling` says "wait", `Stalled`
"it will not come by itself"; never both. What an autoscaler of nodes, a registry or a Secret that comes later
can mend is not stalled before the rollout's deadline: who waits for the object would give up at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from octavo_operator.api.conditions import (
    MODEL_REASONS,
    ConditionStatus,
    ConditionType,
    Reason,
)

_HOPELESS = frozenset(
    {*MODEL_REASONS, Reason.INVALID_SPEC, Reason.IMAGE_NOT_ALLOWED, Reason.NAME_CONFLICT}
    - {Reason.DOWNLOAD_FAILED}
)
"""Reasons that stay until a person changes something."""

_REASONS: Mapping[str, Reason] = {each.value: each for each in Reason}


@dataclass(frozen=True, slots=True)
class Abnormal:
    """The one condition of kstatus that is true."""

    type: ConditionType
    reason: Reason
    message: str


def abnormal(conditions: Mapping[ConditionType, Mapping[str, Any]]) -> Abnormal | None:
    """What kstatus is to be told of an object with these conditions; None when it has arrived.

    An object that serves has: that replicas come and go meanwhile, as an autoscaler wants them, or that
    something beside it is wrong, keeps nobody waiting.
    """
    ready, progressing, degraded = (
        conditions[each]
        for each in (ConditionType.READY, ConditionType.PROGRESSING, ConditionType.DEGRADED)
    )
    if ready["status"] == ConditionStatus.TRUE:
        return None
    if degraded["status"] == ConditionStatus.TRUE and (
        degraded["reason"] in _HOPELESS
        or progressing["reason"] == Reason.PROGRESS_DEADLINE_EXCEEDED
    ):
        return _as(ConditionType.STALLED, degraded)
    if progressing["status"] == ConditionStatus.TRUE:
        return _as(ConditionType.RECONCILING, progressing)
    if ready["reason"] == Reason.SCALED_TO_ZERO:
        return None
    return _as(ConditionType.RECONCILING, ready)


def _as(type_: ConditionType, why: Mapping[str, Any]) -> Abnormal:
    return Abnormal(type_, _REASONS[why["reason"]], why["message"])
