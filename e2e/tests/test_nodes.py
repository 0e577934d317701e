"""Nodes. A node is lost and comes back: the status tells it, and the replica on the other node goes on
answering."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from e2e.lib import clients
from e2e.lib.environment import Environment
from e2e.lib.explain import explain
from e2e.lib.install import OPERATOR_NAMESPACE
from e2e.lib.kubectl import Kubectl
from e2e.lib.llmd import condition, model_pods, status, wait_ready
from e2e.lib.wait import wait_for

NAME = "spread"
# The node controller gives a silent kubelet 50 s (node-monitor-grace-period).
NOTICED_SECONDS = 90
HELP_SECONDS = 120
BACK_SECONDS = 120


@pytest.fixture(scope="module")
def safe_node(octavo: Kubectl) -> str:
    """The worker that stays: the operator's, whose own loss is another story."""
    (operator,) = octavo.within(OPERATOR_NAMESPACE).list(
        "pods", "app.kubernetes.io/component=operator"
    )
    return str(operator["spec"]["nodeName"])


@pytest.fixture(scope="module")
def lost_node(environment: Environment, safe_node: str) -> Iterator[str]:
    """The other worker, which the test stops; it runs again afterwards, whatever happens."""
    if not environment.cluster.is_kind:
        pytest.skip("stops a node, which is only done to kind's")
    (other,) = [node for node in environment.cluster.workers() if node != safe_node]
    yield other
    environment.cluster.node_engine().call("start", other)
    environment.kubectl.run("wait", f"node/{other}", "--for=condition=Ready", "--timeout=90s")
    # A kubelet that starts again takes back resources that it does not know.
    environment.cluster.set_fake_gpus(1)


def test_a_lost_node_is_told_and_its_return_too(
    namespace: Kubectl, environment: Environment, safe_node: str, lost_node: str
) -> None:
    clients.start_client(namespace, environment.images.runtime, safe_node)
    namespace.apply(
        {
            "apiVersion": "octavo.dev/v1alpha1",
            "kind": "LLMDeployment",
            "metadata": {"name": NAME},
            "spec": {
                "model": {"uri": "builtin://demo"},
                "replicas": 2,
                "resources": {"cpu": "100m"},
            },
        }
    )
    url = wait_ready(namespace, NAME)["status"]["url"]
    clients.await_client(namespace)
    nodes = {pod["spec"]["nodeName"] for pod in model_pods(namespace, NAME)}
    assert nodes == {safe_node, lost_node}, "the replicas are not spread over the nodes"

    engine = environment.cluster.node_engine()
    engine.call("stop", "--time", "2", lost_node)
    start = time.monotonic()
    seen = wait_for(
        "a status that tells the loss",
        lambda: namespace.must_get("llmd", NAME),
        lambda llmd: status(llmd, "readyReplicas") == 1 and not condition(llmd, "Ready").is_true,
        timeout_seconds=NOTICED_SECONDS,
        interval_seconds=1,
        explain=lambda: explain(namespace, NAME),
    )
    print(f"told after {time.monotonic() - start:.0f} s: {condition(seen, 'Ready')}")
    assert seen["status"]["ready"] == "1/2"
    # Every request, not one by luck: the Service has let go of the lost pod.
    for _ in range(3):
        assert "42" in clients.ask(namespace, url, NAME, "What is 17 plus 25?")
    # A pod may be replaced without anybody's help; one that stays away needs a person.
    wait_for(
        "a status that asks for help",
        lambda: namespace.must_get("llmd", NAME),
        lambda llmd: condition(llmd, "Degraded").is_true,
        timeout_seconds=HELP_SECONDS,
        explain=lambda: explain(namespace, NAME),
    )

    engine.call("start", lost_node)
    start = time.monotonic()
    wait_ready(namespace, NAME, timeout_seconds=BACK_SECONDS)
    print(f"whole again {time.monotonic() - start:.0f} s after the node's return")
    assert condition(namespace.must_get("llmd", NAME), "Degraded").status == "False"
