"""Progress of a start in the conditions, on a real API server, from a pod that answers over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.operator.admin import create, wait_until
from tests.support.operator.cluster import Cluster
from tests.support.operator.control_plane import ControlPlane
from tests.support.operator.operator_process import OperatorProcess
from tests.support.operator.starting_pod import GIB, StartingPod, report


def running(name: str, identity: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": "registry.example/octavo-runtime:1",
        "imageID": "",
        "containerID": f"containerd://{identity}",
        "ready": False,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }


def test_download_and_load_are_told_as_they_go_and_make_no_event(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    settings = {"progress_interval_seconds": "0.1"}
    process = OperatorProcess(control_plane, cluster.namespace, tmp_path / "log", **settings)

    def messages() -> dict[str, str]:
        conditions = cluster.status().get("conditions", [])
        return {each["type"]: each["message"] for each in conditions}

    def is_told(text: str) -> bool:
        found = messages()
        return all(found.get(each, "").endswith(text) for each in ("Ready", "Progressing"))

    def is_left_alone() -> bool:
        version, asked = cluster.versions()[""], len(pod.asked)
        wait_until(lambda: len(pod.asked) > asked + 3)
        return cluster.versions()[""] == version

    try:
        draft = {"method": "draft_model", "model": {"uri": "hf://org/draft"}}
        engine = {"speculative": draft}
        create(cluster.admin, cluster.namespace, model={"uri": "hf://org/name"}, engine=engine)
        cluster.wait_children()
        with StartingPod() as pod:
            pod.says(report("resolve", 2.0, 4 * GIB, 16 * GIB))
            status = {
                "phase": "Pending",
                "podIP": pod.address,
                "podIPs": [{"ip": pod.address}],
                "conditions": [{"type": "PodScheduled", "status": "True"}],
                "initContainerStatuses": [running("fetch", "1")],
            }
            cluster.add_pod("llama-1", status)
            wait_until(lambda: is_told("downloading the model: 4.0 of 16.0 GiB, 2.0 GiB/s"))
            pod.says(report("resolve", 1.0, 1 * GIB, 2 * GIB))
            fetched = {"exitCode": 0, "startedAt": None, "finishedAt": None}
            before = [
                {**running("fetch", "1"), "state": {"terminated": fetched}},
                running("fetch-draft", "3"),
            ]
            pods = f"/api/v1/namespaces/{cluster.namespace}/pods/llama-1"
            cluster.admin.merge(f"{pods}/status", {"status": {"initContainerStatuses": before}})
            wait_until(lambda: is_told("downloading the draft model: 1.0 of 2.0 GiB, 1.0 GiB/s"))
            pod.says(report("load", 10.0, 8 * GIB, 16 * GIB))
            status = {
                "initContainerStatuses": [],
                "phase": "Running",
                "containerStatuses": [running("octavo", "2")],
            }
            cluster.admin.merge(f"{pods}/status", {"status": status})
            wait_until(lambda: is_told("loading weights: 8.0 of 16.0 GiB, 819 MiB/s"))
            events = f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events"
            told = [each["note"] for each in cluster.admin.items(events)]
            assert not any("GiB" in each for each in told), told
            # A pod that says the same again has nothing written of it.
            # What was on its way may still come; after that, nothing for as long as three answers take.
            wait_until(is_left_alone)
        wait_until(lambda: messages()["Ready"].endswith("loading the model"))
        assert "GiB" not in str(messages()), "who answers no more is not told of"
    finally:
        assert process.stop() == 0
