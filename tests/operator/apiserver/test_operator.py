"""The whole operator process against a real API server: restarts, upgrades, replicas, releases."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from tests.support.operator.admin import DEFINITIONS, create, path, wait_until
from tests.support.operator.cluster import COLLECTIONS, ORDINARY, READY, Cluster
from tests.support.operator.control_plane import ControlPlane, free_ports
from tests.support.operator.operator_process import OperatorProcess

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


def test_a_restarted_operator_changes_nothing(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    first = OperatorProcess(control_plane, cluster.namespace, tmp_path / "first.log")
    create(
        cluster.admin,
        cluster.namespace,
        resources={"cpu": "0.5", "memory": "1024Mi"},
        auth={"secretRef": {"name": "keys"}},
    )
    cluster.wait_children()
    cluster.add_pod("llama-1", READY)
    wait_until(lambda: cluster.condition("Ready") == ("True", "Serving"))
    assert first.stop() == 0
    before = cluster.versions()
    second = OperatorProcess(control_plane, cluster.namespace, tmp_path / "second.log")
    # It is awake once it follows a new object, and has been through the old one by then.
    create(cluster.admin, cluster.namespace, "other")
    wait_until(lambda: set(cluster.children("other")) == ORDINARY)
    assert cluster.versions() == before
    assert second.stop() == 0


def test_an_upgrade_starts_one_model_anew_after_the_other(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    first = OperatorProcess(control_plane, cluster.namespace, tmp_path / "first.log")
    names = ("llama", "qwen")
    for name in names:
        create(cluster.admin, cluster.namespace, name)
        wait_until(partial(lambda name: set(cluster.children(name)) == ORDINARY, name))
        cluster.add_pod(f"{name}-1", READY, name)
        wait_until(partial(lambda name: cluster.condition("Ready", name)[0] == "True", name))
    assert first.stop() == 0
    settings = {
        "runtime_image": "registry.example/octavo-runtime:2",
        "max_concurrent_rollouts": "1",
    }
    second = OperatorProcess(control_plane, cluster.namespace, tmp_path / "second.log", **settings)

    def waits(name: str) -> bool:
        return cluster.condition("Progressing", name) == ("True", "RolloutQueued")

    def is_paused(name: str) -> bool:
        return bool(cluster.children(name)["Deployment"]["spec"].get("paused"))

    wait_until(lambda: any(waits(name) for name in names))
    wait_until(
        lambda: any(cluster.condition("Progressing", name)[1] == "RollingOut" for name in names)
    )
    (held,) = filter(waits, names)
    (going,) = set(names) - {held}
    assert (is_paused(held), is_paused(going)) == (True, False)
    assert cluster.condition("Ready", held) == ("True", "Serving")
    cluster.admin.merge(path(cluster.namespace, held) + "/scale", {"spec": {"replicas": 2}})
    wait_until(lambda: cluster.children(held)["Deployment"]["spec"]["replicas"] == 2)
    assert is_paused(held)
    cluster.add_pod(f"{going}-2", READY, going)
    cluster.admin.request("DELETE", f"/api/v1/namespaces/{cluster.namespace}/pods/{going}-1")
    wait_until(lambda: not is_paused(held))
    wait_until(lambda: cluster.condition("Progressing", held)[1] == "RollingOut")
    assert second.stop() == 0


def test_what_happened_while_the_operator_was_down_is_made_good(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    create(cluster.admin, cluster.namespace)
    process = OperatorProcess(control_plane, cluster.namespace, tmp_path / "a.log")
    cluster.wait_children()
    process.stop(signal.SIGKILL)
    cluster.admin.request("DELETE", COLLECTIONS["Service"].format(cluster.namespace) + "/llama")
    cluster.admin.merge(path(cluster.namespace, "llama"), {"spec": {"replicas": 2}})
    # Deleting works without the operator: it sets no finalizer.
    create(cluster.admin, cluster.namespace, "gone")
    cluster.admin.request("DELETE", path(cluster.namespace, "gone"))
    assert cluster.admin.get(path(cluster.namespace, "gone")) is None
    again = OperatorProcess(control_plane, cluster.namespace, tmp_path / "b.log")
    wait_until(
        lambda: (
            cluster.children().get("Deployment", {}).get("spec", {}).get("replicas") == 2
            and "Service" in cluster.children()
        )
    )
    assert again.stop() == 0


def test_of_two_replicas_one_acts_and_the_other_takes_over(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    one = OperatorProcess(control_plane, cluster.namespace, tmp_path / "1.log", identity="one")
    wait_until(lambda: '"leading"' in one.text())
    two = OperatorProcess(control_plane, cluster.namespace, tmp_path / "2.log", identity="two")
    wait_until(lambda: "waiting for the lease" in two.text())
    create(cluster.admin, cluster.namespace)
    cluster.wait_children()
    assert '"child"' not in two.text()
    one.stop(signal.SIGKILL)
    create(cluster.admin, cluster.namespace, "second")
    wait_until(lambda: set(cluster.children("second")) == ORDINARY)
    assert two.stop() == 0


def test_a_leader_that_froze_is_replaced_within_20_seconds_and_does_no_harm_when_it_thaws(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    """A frozen process keeps its connections and answers nothing."""
    processes = []
    for name, port in zip(("one", "two"), free_ports(2), strict=True):
        process = OperatorProcess(
            control_plane,
            cluster.namespace,
            tmp_path / f"{name}.log",
            identity=name,
            health_port=str(port),
        )
        processes.append(process)
        wait_until(partial(process.says, '"leading"' if name == "one" else "waiting for the lease"))
    one, two = processes
    create(cluster.admin, cluster.namespace)
    before = cluster.wait_children()["Service"]["metadata"]["uid"]
    wait_until(lambda: one.is_ready() and two.is_ready())
    written = one.text().count('"child"')
    one.send(signal.SIGSTOP)
    try:
        frozen_at = datetime.now(UTC)
        cluster.admin.request("DELETE", COLLECTIONS["Service"].format(cluster.namespace) + "/llama")
        wait_until(lambda: "Service" in cluster.children())
        wait_until(two.is_ready)
        assert not one.is_ready()
        versions = cluster.versions()
    finally:
        one.send(signal.SIGCONT)
    assert cluster.children()["Service"]["metadata"]["uid"] != before
    assert one.stop(None) == 1
    last = json.loads(one.text().splitlines()[-1])
    assert last["event"] == "operator ended"
    assert last["why"].startswith("lost the lease")
    assert "Traceback" not in one.text()
    assert one.text().count('"child"') == written
    assert cluster.versions() == versions
    assert two.stop() == 0
    lease = cluster.admin.get(f"{LEASES.format(cluster.namespace)}/octavo-operator") or {}
    assert lease["spec"]["holderIdentity"] in ("two", "")
    replaced_at = datetime.fromisoformat(lease["spec"]["acquireTime"])
    assert timedelta() < replaced_at - frozen_at < timedelta(seconds=20)


def test_two_releases_in_one_namespace_act_side_by_side(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    names = ("octavo-operator", "second-octavo-operator")
    processes = [
        OperatorProcess(
            control_plane,
            cluster.namespace,
            tmp_path / f"{name}.log",
            lease_name=name,
            identity=f"{name}-pod",
            pod_uid=f"uid-of-{name}",
        )
        for name in names
    ]
    for process in processes:
        wait_until(partial(process.says, '"leading"'))
    for name in names:
        lease = cluster.admin.get(f"{LEASES.format(cluster.namespace)}/{name}") or {}
        (owner,) = lease["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == (
            "Pod",
            f"{name}-pod",
            f"uid-of-{name}",
        )
    assert [process.stop() for process in processes] == [0, 0]


def test_a_definition_that_went_and_came_back_is_followed_anew(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    process = OperatorProcess(control_plane, cluster.namespace, tmp_path / "operator.log")
    create(cluster.admin, cluster.namespace)
    cluster.wait_children()
    definition = f"{DEFINITIONS}/llmdeployments.octavo.dev"
    assert cluster.admin.request("DELETE", definition).status == 200
    try:
        wait_until(lambda: process.says("beginning anew"))
        wait_until(lambda: process.says("is the CRD installed?"))
    finally:
        wait_until(lambda: cluster.admin.get(definition) is None)
        cluster.admin.install_crd()
    wait_until(lambda: create(cluster.admin, cluster.namespace, "second").status in (201, 409))
    wait_until(lambda: set(cluster.children("second")) == ORDINARY)
    assert process.stop() == 0
    assert not process.says("Traceback")


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "octavo_operator.main"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 3
    assert "OCTAVO_OPERATOR_RUNTIME_IMAGE" in result.stderr
