"""Conditions and events on a real API server."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.operator.admin import create, path, wait_until
from tests.support.operator.cluster import ORDINARY, READY, Cluster
from tests.support.operator.control_plane import ControlPlane
from tests.support.operator.operator_process import OperatorProcess


@pytest.mark.usefixtures("operator")
def test_endpoints_that_are_not_the_pods_are_noticed_and_those_that_are_again_too(
    cluster: Cluster,
) -> None:
    create(cluster.admin, cluster.namespace)
    cluster.wait_children()
    cluster.add_pod("llama-1", READY)
    wait_until(lambda: cluster.condition("Ready") == ("True", "Serving"))
    cluster.lead_to("llama-1", "stranger")
    wait_until(lambda: cluster.condition("Ready") == ("False", "EndpointsMismatch"))
    assert cluster.status()["url"] == ""
    cluster.lead_to("llama-1")
    wait_until(lambda: cluster.condition("Ready") == ("True", "Serving"))
    assert cluster.status()["url"]


@pytest.mark.usefixtures("operator")
def test_a_status_that_was_written_or_taken_by_hand_is_put_right(cluster: Cluster) -> None:
    create(cluster.admin, cluster.namespace)
    cluster.wait_children()
    cluster.add_pod("llama-1", READY)
    wait_until(lambda: cluster.condition("Ready") == ("True", "Serving"))
    lie = {**cluster.status()["conditions"][0], "reason": "Mine"}
    for written in ({"readyReplicas": 7, "conditions": [lie]}, None):
        status = f"{path(cluster.namespace, 'llama')}/status"
        assert cluster.admin.merge(status, {"status": written}).status == 200
        wait_until(lambda: cluster.status().get("readyReplicas") == 1, timeout_seconds=100)
        assert cluster.condition("Ready") == ("True", "Serving")
        assert len(cluster.status()["conditions"]) == 5


@pytest.mark.usefixtures("operator")
def test_what_happens_again_is_one_event_that_is_counted(cluster: Cluster) -> None:
    create(cluster.admin, cluster.namespace)
    cluster.wait_children()
    events = f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events"

    def scaled_to_zero() -> list[dict[str, Any]]:
        return [each for each in cluster.admin.items(events) if each["reason"] == "ScaledToZero"]

    for replicas in (0, 1, 0):
        cluster.admin.merge(path(cluster.namespace, "llama"), {"spec": {"replicas": replicas}})
        reason = "Starting" if replicas else "ScaledToZero"
        wait_until(partial(lambda wanted: cluster.condition("Ready")[1] == wanted, reason))
    wait_until(lambda: any(each["deprecatedCount"] == 2 for each in scaled_to_zero()))
    assert len(scaled_to_zero()) == 1


@pytest.mark.usefixtures("operator")
def test_an_image_that_cannot_be_pulled_is_a_condition_and_an_event(cluster: Cluster) -> None:
    create(cluster.admin, cluster.namespace)
    cluster.wait_children()
    waiting = {"reason": "ErrImagePull", "message": "manifest unknown"}
    container = {
        "name": "octavo",
        "image": "registry.example/octavo-runtime:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": waiting},
    }
    scheduled = {"type": "PodScheduled", "status": "True"}
    cluster.add_pod(
        "llama-1",
        {"phase": "Pending", "conditions": [scheduled], "containerStatuses": [container]},
    )
    wait_until(lambda: cluster.condition("Degraded") == ("True", "ImagePullFailed"))
    assert cluster.condition("Ready") == ("False", "ImagePullFailed")
    events = f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events"
    wait_until(
        lambda: any(
            (each["reason"], each["type"]) == ("ImagePullFailed", "Warning")
            for each in cluster.admin.items(events)
        )
    )


def test_a_service_that_a_quota_refuses_makes_pods_that_answer_unready(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    quotas = f"/api/v1/namespaces/{cluster.namespace}/resourcequotas"
    none = {"services": "0"}
    cluster.admin.create(quotas, {"metadata": {"name": "q"}, "spec": {"hard": none}})
    # What the controller of quotas would write, and the admission of objects reads.
    answer = cluster.admin.merge(f"{quotas}/q/status", {"status": {"hard": none, "used": none}})
    assert answer.status == 200, answer.message
    process = OperatorProcess(control_plane, cluster.namespace, tmp_path / "operator.log")
    create(cluster.admin, cluster.namespace)
    cluster.wait_children(ORDINARY - {"Service"})
    cluster.add_pod("llama-1", READY)
    wait_until(lambda: cluster.condition("ModelAvailable") == ("True", "ModelLoaded"))
    assert cluster.condition("Ready") == ("False", "ApplyFailed")
    assert cluster.status()["url"] == ""
    assert process.stop() == 0
