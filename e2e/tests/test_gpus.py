"""GPUs are counted by the real scheduler: two nodes with one each run two replicas, the third one waits."""

from __future__ import annotations

import pytest

from e2e.lib.explain import explain
from e2e.lib.kubectl import Kubectl
from e2e.lib.llmd import condition, is_pod_ready, model_pods, status
from e2e.lib.wait import wait_for

NAME = "gpus"


@pytest.fixture(scope="module")
def crowded(namespace: Kubectl) -> Kubectl:
    """Three replicas that want a GPU each, where there are two."""
    capacity = [
        int(node["status"]["capacity"].get("nvidia.com/gpu", 0)) for node in namespace.list("nodes")
    ]
    if sum(capacity) != 2:
        pytest.skip(f"needs two fake GPUs in the cluster, has {sum(capacity)}")
    namespace.apply(
        {
            "apiVersion": "octavo.dev/v1alpha1",
            "kind": "LLMDeployment",
            "metadata": {"name": NAME},
            "spec": {
                "model": {"uri": "builtin://demo"},
                "replicas": 3,
                # The GPUs are numbers of the scheduler's alone.
                "engine": {"device": "cpu"},
                "resources": {"gpu": 1, "cpu": "100m"},
            },
        }
    )
    return namespace


def test_two_replicas_run_and_the_third_is_reported(crowded: Kubectl) -> None:
    degraded = wait_for(
        "InsufficientGpu",
        lambda: condition(crowded.must_get("llmd", NAME), "Degraded"),
        lambda seen: seen.is_true and seen.reason == "InsufficientGpu",
        timeout_seconds=90,
        explain=lambda: explain(crowded, NAME),
    )
    assert "nvidia.com/gpu" in degraded.message
    wait_for(
        "two pods to be ready",
        lambda: sum(is_pod_ready(pod) for pod in model_pods(crowded, NAME)),
        lambda count: count == 2,
        timeout_seconds=90,
        explain=lambda: explain(crowded, NAME),
    )
    pods = model_pods(crowded, NAME)
    nodes = {pod["spec"]["nodeName"] for pod in pods if is_pod_ready(pod)}
    assert len(nodes) == 2, "two pods share one GPU"
    waiting = [pod for pod in pods if pod["status"]["phase"] == "Pending"]
    assert len(waiting) == 1
    llmd = wait_for(
        "a status of 2/3",
        lambda: crowded.must_get("llmd", NAME),
        lambda seen: status(seen, "readyReplicas") == 2,
        timeout_seconds=20,
        explain=lambda: explain(crowded, NAME),
    )
    assert llmd["status"]["ready"] == "2/3"
    assert condition(llmd, "Ready").status == "False"


def test_the_wait_ends_when_a_gpu_is_free(crowded: Kubectl) -> None:
    crowded.run("scale", f"llmd/{NAME}", "--replicas=2")
    wait_for(
        "Ready with two replicas and nothing degraded",
        lambda: crowded.must_get("llmd", NAME),
        lambda seen: (
            condition(seen, "Ready").is_true
            and condition(seen, "Degraded").status == "False"
            and seen["status"]["ready"] == "2/2"
        ),
        timeout_seconds=60,
        explain=lambda: explain(crowded, NAME),
    )


def test_gpus_of_one_replica_are_all_of_one_node(crowded: Kubectl) -> None:
    """No node has two. Their processes would share the model, each on a GPU of its own."""
    crowded.apply(
        {
            "apiVersion": "octavo.dev/v1alpha1",
            "kind": "LLMDeployment",
            "metadata": {"name": "pair"},
            "spec": {
                "model": {"uri": "builtin://demo"},
                "resources": {"gpu": 2, "cpu": "100m"},
            },
        }
    )
    wait_for(
        "InsufficientGpu",
        lambda: condition(crowded.must_get("llmd", "pair"), "Degraded"),
        lambda seen: seen.is_true and seen.reason == "InsufficientGpu",
        timeout_seconds=90,
        explain=lambda: explain(crowded, "pair"),
    )
    assert status(crowded.must_get("llmd", "pair"), "gpus") == 2
    (pod,) = model_pods(crowded, "pair")
    (serve,) = pod["spec"]["containers"]
    assert "--device cuda --tensor-parallel-size 2" in " ".join(serve["args"])
    assert serve["resources"]["limits"]["nvidia.com/gpu"] == "2"
    crowded.run("delete", "llmd/pair")
