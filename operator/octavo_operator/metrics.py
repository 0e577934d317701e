"""Operator's own metrics, for `/metrics` on the health port."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)
