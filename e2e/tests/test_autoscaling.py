"""Replicas follow the queue that a real Prometheus scrapes: up under load, down after it."""

from __future__ import annotations

import time

import pytest

from e2e.lib import clients
from e2e.lib.explain import explain
from e2e.lib.install import ROOT
from e2e.lib.kubectl import Kubectl
from e2e.lib.llmd import condition, model_pods, status, wait_ready
from e2e.lib.wait import wait_for

DEMO = ROOT / "examples" / "demo.yaml"
NAME = "demo"


@pytest.fixture(scope="module")
def scaling(namespace: Kubectl, client: Kubectl) -> Kubectl:
    namespace.apply(DEMO)
    wait_ready(namespace, NAME)
    clients.await_client(client)
    return namespace


def test_without_load_the_fewest_replicas_run_and_the_queue_is_read(scaling: Kubectl) -> None:
    spec = scaling.must_get("llmd", NAME)["spec"]["autoscaling"]
    llmd = wait_for(
        "the operator to read the queue from Prometheus",
        lambda: scaling.must_get("llmd", NAME),
        lambda seen: "queue" in seen["status"] and condition(seen, "Autoscaling").is_true,
        timeout_seconds=60,
        explain=lambda: explain(scaling, NAME),
    )
    assert llmd["status"]["queue"] == 0
    assert status(llmd, "desiredReplicas") == spec["minReplicas"]


def test_replicas_grow_under_load_and_shrink_after_it(scaling: Kubectl) -> None:
    llmd = scaling.must_get("llmd", NAME)
    spec = llmd["spec"]["autoscaling"]
    deepest = 0

    def sight() -> int:
        nonlocal deepest
        now = scaling.must_get("llmd", NAME)
        deepest = max(deepest, status(now, "queue"))
        return status(now, "readyReplicas")

    start = time.monotonic()
    load = clients.Load(
        scaling, llmd["status"]["url"], NAME, concurrency=48, max_tokens=64, seconds=180
    )
    try:
        wait_for(
            f"{spec['maxReplicas']} replicas under load",
            sight,
            lambda ready: ready == spec["maxReplicas"],
            timeout_seconds=120,
            interval_seconds=1,
            explain=lambda: explain(scaling, NAME),
        )
        grown = time.monotonic()
        result = load.stop()
    finally:
        load.kill()
    wait_for(
        f"{spec['minReplicas']} replicas after the load",
        lambda: (
            len(model_pods(scaling, NAME)),
            status(scaling.must_get("llmd", NAME), "replicas"),
        ),
        lambda seen: seen == (spec["minReplicas"],) * 2,
        timeout_seconds=120,
        interval_seconds=1,
        explain=lambda: explain(scaling, NAME),
    )
    print(
        f"up in {grown - start:.0f} s, down {time.monotonic() - grown:.0f} s after the load; "
        f"deepest queue {deepest}; {result}"
    )
    assert deepest > spec["queueDepth"]
    assert (result.failed, result.errors) == (0, [])
    wait_ready(scaling, NAME)
