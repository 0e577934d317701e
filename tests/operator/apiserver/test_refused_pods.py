"""Pods that are refused, told by what the controllers of Deployments and ReplicaSets write: with the rights
that the operator has, and without that on ReplicaSets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.operator.admin import Admin, create, path, wait_until
from tests.support.operator.builders import refused_event
from tests.support.operator.cluster import Cluster
from tests.support.operator.control_plane import ControlPlane
from tests.support.operator.operator_process import OperatorProcess

QUOTA = 'pods "a" is forbidden: exceeded quota: q'
POLICY = 'admission webhook "images.example" denied the request: sign them'
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/octavo-operator"


def failure(message: str) -> dict[str, Any]:
    return {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": message,
    }


def deployments_say(cluster: Cluster, message: str) -> None:
    """As their controller does: what it heard first, of whatever generation."""
    live = cluster.children()["Deployment"]
    status = {
        "observedGeneration": live["metadata"]["generation"],
        "conditions": [failure(message)],
    }
    where = f"/apis/apps/v1/namespaces/{cluster.namespace}/deployments/llama/status"
    assert cluster.admin.merge(where, {"status": status}).status == 200


def add_replica_set(cluster: Cluster, number: int, message: str) -> None:
    """As the controllers make one for the Deployment's template, and are refused."""
    live = cluster.children()["Deployment"]
    template = live["spec"]["template"]
    labels = template["metadata"]["labels"]
    hashed = labels | {"pod-template-hash": labels["octavo.dev/revision"]}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama", "controller": True}
    sets = f"/apis/apps/v1/namespaces/{cluster.namespace}/replicasets"
    name = f"llama-{labels['octavo.dev/revision']}"
    answer = cluster.admin.request(
        "POST",
        sets,
        {
            "metadata": {
                "name": name,
                "labels": hashed,
                "annotations": {"deployment.kubernetes.io/revision": str(number)},
                "ownerReferences": [owner | {"uid": live["metadata"]["uid"]}],
            },
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": hashed},
                "template": {**template, "metadata": {"labels": hashed}},
            },
        },
    )
    assert answer.status == 201, answer.message
    status = {"replicas": 0, "conditions": [failure(message)]}
    assert cluster.admin.merge(f"{sets}/{name}/status", {"status": status}).status == 200


def told(cluster: Cluster, message: str) -> bool:
    conditions = cluster.status().get("conditions", [])
    return any(each["type"] == "Degraded" and message in each["message"] for each in conditions)


@pytest.fixture
def process(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """An operator whose log has refusals in it, of pods."""
    running = OperatorProcess(control_plane, namespace, tmp_path / "operator.log")
    yield running
    assert running.stop() == 0
    assert not running.says("Traceback")


def begin_refused(cluster: Cluster, message: str) -> None:
    """One whose ReplicaSet is refused for this, while its Deployment tells of a quota."""
    create(cluster.admin, cluster.namespace)
    cluster.wait_children()
    add_replica_set(cluster, 1, message)
    deployments_say(cluster, QUOTA)


def test_what_refuses_the_pods_of_the_corrected_spec_is_told(
    cluster: Cluster, process: OperatorProcess
) -> None:
    begin_refused(cluster, QUOTA)
    wait_until(lambda: cluster.condition("Ready") == ("False", "QuotaExceeded"))
    before = cluster.children()["Deployment"]["metadata"]["generation"]
    memory = {"spec": {"resources": {"memory": "1Gi"}}}
    cluster.admin.merge(path(cluster.namespace, "llama"), memory)
    wait_until(lambda: cluster.children()["Deployment"]["metadata"]["generation"] > before)
    add_replica_set(cluster, 2, POLICY)
    deployments_say(cluster, QUOTA)
    wait_until(lambda: cluster.condition("Ready") == ("False", "PodsForbidden"))
    assert told(cluster, POLICY)
    assert not process.says("cannot list resource")


@pytest.fixture
def older_rights(admin: Admin) -> Iterator[None]:
    """Those of a chart that knew nothing of ReplicaSets."""
    rules = (admin.get(ROLE) or {})["rules"]
    admin.merge(ROLE, {"rules": [each for each in rules if each["resources"] != ["replicasets"]]})
    yield
    assert admin.merge(ROLE, {"rules": rules}).status == 200


@pytest.mark.usefixtures("older_rights", "process")
def test_without_the_right_the_deployment_s_first_refusal_is_told_as_that(cluster: Cluster) -> None:
    begin_refused(cluster, POLICY)
    wait_until(lambda: cluster.condition("Degraded") == ("True", "QuotaExceeded"))
    assert told(cluster, "refused for first, and may be mended")


def refuse(cluster: Cluster, message: str) -> None:
    """As the controller of ReplicaSets tells of each refusal, also of those that its condition does not."""
    sets = cluster.admin.items(f"/apis/apps/v1/namespaces/{cluster.namespace}/replicasets")
    event = refused_event(sets[0], f"Error creating: {message}", datetime.now(UTC))
    about = {"kind": "ReplicaSet", "apiVersion": "apps/v1", "name": sets[0]["metadata"]["name"]}
    event["involvedObject"] |= about
    cluster.admin.create(f"/api/v1/namespaces/{cluster.namespace}/events", event)


def test_another_reason_for_the_same_replica_set_is_told(
    cluster: Cluster, process: OperatorProcess
) -> None:
    begin_refused(cluster, QUOTA)
    wait_until(lambda: cluster.condition("Ready") == ("False", "QuotaExceeded"))
    assert told(cluster, "no Event says what for now")
    refuse(cluster, POLICY)
    deployments_say(cluster, f"{QUOTA} ")  # wakes the operator before its half minute
    wait_until(lambda: cluster.condition("Degraded") == ("True", "PodsForbidden"))
    assert told(cluster, POLICY)
    assert not process.says("cannot list resource")
