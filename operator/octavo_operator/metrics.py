"""Operator's own metrics, for `/metrics` on the health port."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from octavo_operator.api.conditions import ConditionStatus, ConditionType
from octavo_operator.manifest import ObjectKey

REGISTRY = CollectorRegistry()

RECONCILE_SECONDS = Histogram(
    "octavo_operator_reconcile_duration_seconds",
    "Duration of one reconcile.",
    registry=REGISTRY,
)
RECONCILE_ERRORS = Counter(
    "octavo_operator_reconcile_errors_total",
    "Reconciles that failed and will be tried again.",
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge(
    "octavo_operator_workqueue_depth", "Objects that wait for a worker.", registry=REGISTRY
)
LEADER = Gauge("octavo_operator_leader", "1 while this replica acts.", registry=REGISTRY)
PROMETHEUS_ERRORS = Counter(
    "octavo_operator_prometheus_errors_total",
    "Autoscaling passes without an answer from Prometheus.",
    registry=REGISTRY,
)

CONDITION = Gauge(
    "octavo_operator_llmdeployment_condition",
    "1 for the status that a condition of an LLMDeployment has.",
    ["namespace", "name", "type", "status"],
    registry=REGISTRY,
)


_SAID_BY_OTHERS = (ConditionType.RECONCILING, ConditionType.STALLED)
"""Absent at times, which a gauge cannot be."""


def set_conditions(key: ObjectKey, conditions: Iterable[Mapping[str, Any]]) -> None:
    """What the conditions of one object say now."""
    for condition in conditions:
        if condition["type"] in _SAID_BY_OTHERS:
            continue
        for status in ConditionStatus:
            CONDITION.labels(key.namespace, key.name, condition["type"], status.value).set(
                condition["status"] == status
            )


def forget(key: ObjectKey) -> None:
    """The object is gone."""
    for type_ in set(ConditionType).difference(_SAID_BY_OTHERS):
        for status in ConditionStatus:
            CONDITION.remove(key.namespace, key.name, type_.value, status.value)


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)
