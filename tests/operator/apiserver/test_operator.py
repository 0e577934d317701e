"""The whole operator process against a real API server, with the rights of its own ClusterRole.

No controllers run here, so the tests write what they would: the pods and their status. Deleting an
owner collects nothing for the same reason; the end-to-end tests see that.
"""

from __future__ import annotations

import copy
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from octavo_operator.settings import Settings
from tests.support.operator.admin import Admin, create, path, wait_until
from tests.support.operator.control_plane import ControlPlane, free_ports
from tests.support.operator.fake_kube import endpoint_slice

COLLECTIONS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
}
ORDINARY = set(COLLECTIONS) - {"PersistentVolumeClaim"}


class OperatorProcess:
    """`python -m octavo_operator.main`, watching one namespace."""

    def __init__(self, plane: ControlPlane, namespace: str, log: Path, **settings: str) -> None:
        self.log = log
        self._readyz = f"http://127.0.0.1:{settings.get('health_port', '0')}/readyz"
        environment = {
            "PATH": os.environ["PATH"],
            # The operator of this tree, wherever another one is installed from.
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(log.parent),
            "KUBECONFIG": str(plane.operator_kubeconfig),
            "OCTAVO_OPERATOR_RUNTIME_IMAGE": "registry.example/octavo-runtime:1",
            "OCTAVO_OPERATOR_WATCH_NAMESPACES": namespace,
            "OCTAVO_OPERATOR_NAMESPACE": namespace,
            "OCTAVO_OPERATOR_HEALTH_PORT": "0",
            "OCTAVO_OPERATOR_LEASE_DURATION_SECONDS": "3",
            **{f"OCTAVO_OPERATOR_{key.upper()}": value for key, value in settings.items()},
        }
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "octavo_operator.main"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def is_ready(self) -> bool:
        """As the kubelet asks; the port must have been chosen."""
        try:
            with urllib.request.urlopen(self._readyz, timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    def says(self, part: str) -> bool:
        return part in self.text()

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self, number: signal.Signals | None = signal.SIGTERM) -> int:
        """Its exit status; waits for an end of its own without a signal."""
        if self._process.poll() is None and number is not None:
            self._process.send_signal(number)
        try:
            return self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


@pytest.fixture
def operator(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    process = OperatorProcess(control_plane, namespace, tmp_path / "operator.log")
    yield process
    process.stop()
    assert "Traceback" not in process.text(), process.text()
    assert "forbidden" not in process.text().lower(), process.text()


class Cluster:
    """One namespace as a test sees it."""

    def __init__(self, admin: Admin, namespace: str) -> None:
        self.admin, self.namespace = admin, namespace

    def children(self, name: str = "llama") -> dict[str, dict[str, Any]]:
        found = {}
        for kind, collection in COLLECTIONS.items():
            for item in self.admin.items(collection.format(self.namespace)):
                if item["metadata"].get("labels", {}).get("octavo.dev/llmdeployment") == name:
                    found[kind] = item
        return found

    def wait_children(self, kinds: set[str] = ORDINARY) -> dict[str, dict[str, Any]]:
        wait_until(lambda: set(self.children()) == kinds)
        return self.children()

    def condition(self, type_: str, name: str = "llama") -> tuple[str, str]:
        live = self.admin.get(path(self.namespace, name)) or {}
        for condition in live.get("status", {}).get("conditions", []):
            if condition["type"] == type_:
                return condition["status"], condition["reason"]
        return ("", "")

    def status(self) -> dict[str, Any]:
        live = self.admin.get(path(self.namespace, "llama")) or {}
        status: dict[str, Any] = live.get("status", {})
        return status

    def versions(self) -> dict[str, str]:
        live = {**self.children(), "": self.admin.get(path(self.namespace, "llama")) or {}}
        return {kind: each["metadata"]["resourceVersion"] for kind, each in live.items()}

    def add_pod(self, name: str, status: dict[str, Any], owner: str = "llama") -> None:
        """What the ReplicaSet controller, the scheduler and the kubelet would do."""
        template = self.children(owner)["Deployment"]["spec"]["template"]
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        labels = template["metadata"]["labels"]
        template_hash = labels["octavo.dev/revision"]
        made_by = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": f"{owner}-{template_hash}",
            "uid": f"uid-of-{template_hash}",
            "controller": True,
        }
        pod = {
            "metadata": {
                "name": name,
                "labels": labels | {"pod-template-hash": template_hash},
                "ownerReferences": [made_by],
            },
            "spec": template["spec"],
        }
        answer = self.admin.request("POST", pods, pod)
        assert answer.status == 201, answer.message
        answer = self.admin.merge(f"{pods}/{name}/status", {"status": status})
        assert answer.status == 200, answer.message
        self.lead_to(name, service=owner)

    def lead_to(self, *pods: str, service: str = "llama") -> None:
        """What the controller of EndpointSlices would do."""
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        wanted = endpoint_slice(self.namespace, service, *pods)
        if self.admin.request("POST", slices, wanted).status == 201:
            return
        endpoints = {"endpoints": wanted["endpoints"]}
        answer = self.admin.merge(f"{slices}/{wanted['metadata']['name']}", endpoints)
        assert answer.status == 200, answer.message


READY = {
    "phase": "Running",
    "conditions": [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True"},
    ],
}


@pytest.fixture
def cluster(admin: Admin, namespace: str) -> Cluster:
    return Cluster(admin, namespace)


@pytest.mark.usefixtures("operator")
def test_an_object_gets_its_children_and_becomes_ready_with_its_pods(cluster: Cluster) -> None:
    create(cluster.admin, cluster.namespace)
    children = cluster.wait_children()
    owner = cluster.admin.get(path(cluster.namespace, "llama")) or {}
    for child in children.values():
        (reference,) = child["metadata"]["ownerReferences"]
        assert reference["uid"] == owner["metadata"]["uid"]
        managers = {each["manager"] for each in child["metadata"]["managedFields"]}
        assert managers == {"octavo-operator"}
    wait_until(lambda: cluster.condition("Ready") == ("False", "Starting"))
    cluster.add_pod("llama-1", READY)
    wait_until(lambda: cluster.condition("Ready") == ("True", "Serving"))
    status = cluster.status()
    assert (status["ready"], status["observedGeneration"]) == ("1/1", 1)
    assert status["url"] == f"http://llama.{cluster.namespace}.svc:8000/v1"


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
def test_a_name_of_63_characters_works(cluster: Cluster) -> None:
    name = "a" * 63
    create(cluster.admin, cluster.namespace, name)
    wait_until(lambda: set(cluster.children(name)) == ORDINARY)
    wait_until(lambda: cluster.condition("Ready", name)[1] == "Starting")


@pytest.mark.usefixtures("operator")
def test_a_deleted_child_comes_back_and_a_changed_one_is_put_right(cluster: Cluster) -> None:
    create(cluster.admin, cluster.namespace)
    cluster.wait_children()
    service = COLLECTIONS["Service"].format(cluster.namespace) + "/llama"
    before = (cluster.admin.get(service) or {})["metadata"]["uid"]
    cluster.admin.request("DELETE", service)
    wait_until(
        lambda: (cluster.admin.get(service) or {}).get("metadata", {}).get("uid", before) != before
    )
    cluster.admin.merge(service, {"spec": {"selector": {"octavo.dev/llmdeployment": "other"}}})
    wait_until(
        lambda: (
            (cluster.admin.get(service) or {})["spec"]["selector"]
            == {
                "app.kubernetes.io/name": "octavo",
                "app.kubernetes.io/instance": "llama",
                "app.kubernetes.io/component": "model-server",
                "app.kubernetes.io/managed-by": "octavo-operator",
                "app.kubernetes.io/part-of": "octavo",
                "octavo.dev/llmdeployment": "llama",
            }
        )
    )


@pytest.mark.usefixtures("operator")
def test_what_others_add_to_a_child_is_taken_out_again(cluster: Cluster) -> None:
    """Server-side apply alone would leave it: what others own stays."""
    create(cluster.admin, cluster.namespace)
    pristine = cluster.wait_children()
    deployment = COLLECTIONS["Deployment"].format(cluster.namespace) + "/llama"
    service = COLLECTIONS["Service"].format(cluster.namespace) + "/llama"
    policy = COLLECTIONS["NetworkPolicy"].format(cluster.namespace) + "/llama"
    team = {"team": "blue"}
    cluster.admin.merge(service, {"spec": {"selector": team, "sessionAffinity": "ClientIP"}})
    cluster.admin.merge(policy, {"spec": {"podSelector": {"matchLabels": team}}})
    container = pristine["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    variable = {"name": "DEBUG", "value": "1"}
    changed = {**container, "env": [variable, *container["env"]]}
    sidecar = {"name": "sidecar", "image": "registry.example/sidecar:1"}
    pod = {"containers": [sidecar, changed], "nodeSelector": {"zone": "a"}}
    added = {"paused": True, "minReadySeconds": 9, "template": {"spec": pod}}
    answer = cluster.admin.merge(deployment, {"spec": added})
    assert answer.status == 200, answer.message

    def specs(children: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {kind: child["spec"] for kind, child in children.items() if "spec" in child}

    def versions(children: dict[str, dict[str, Any]]) -> dict[str, str]:
        return {kind: child["metadata"]["resourceVersion"] for kind, child in children.items()}

    wait_until(lambda: specs(cluster.children()) == specs(pristine))
    settled = versions(cluster.children())
    time.sleep(1)
    assert versions(cluster.children()) == settled


def container_with(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Changes fields of the serving container, as `kubectl edit` does; None takes one away."""

    def change(deployment: dict[str, Any]) -> None:
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container |= fields
        for name in [name for name, value in container.items() if value is None]:
            del container[name]

    return change


def variable(name: str, **source: Any) -> Callable[[dict[str, Any]], None]:
    """Gives a variable of the serving container another source."""

    def change(deployment: dict[str, Any]) -> None:
        variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        (index,) = (at for at, each in enumerate(variables) if each["name"] == name)
        variables[index] = {"name": name, **source}

    return change


def volume(name: str, **source: Any) -> Callable[[dict[str, Any]], None]:
    """Gives a volume another source."""

    def change(deployment: dict[str, Any]) -> None:
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        (index,) = (at for at, each in enumerate(volumes) if each["name"] == name)
        volumes[index] = {"name": name, **source}

    return change


def replaced(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Replaces fields of the spec."""

    def change(child: dict[str, Any]) -> None:
        child["spec"] |= fields
        for name in [name for name, value in child["spec"].items() if value is None]:
            del child["spec"][name]

    return change


def localhost_profile(deployment: dict[str, Any]) -> None:
    security = deployment["spec"]["template"]["spec"]["securityContext"]
    security["seccompProfile"] = {"type": "Localhost", "localhostProfile": "mine.json"}


def renamed_container(deployment: dict[str, Any]) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["name"] = "mine"


def other_port(service: dict[str, Any]) -> None:
    service["spec"]["ports"][0] |= {"port": 9000}


SWAPS = {
    "exec-probe": ("Deployment", container_with(readinessProbe={"exec": {"command": ["true"]}})),
    "tcp-probe": ("Deployment", container_with(livenessProbe={"tcpSocket": {"port": 8001}})),
    "grpc-probe": ("Deployment", container_with(startupProbe={"grpc": {"port": 8001}})),
    "no-probe": ("Deployment", container_with(readinessProbe=None)),
    "recreate": ("Deployment", replaced(strategy={"type": "Recreate"})),
    "rolling-update": ("Deployment", replaced(strategy={"type": "RollingUpdate"})),
    "host-volume": ("Deployment", volume("tmp", hostPath={"path": "/tmp"})),  # noqa: S108
    "claim-for-memory": ("Deployment", volume("shm", persistentVolumeClaim={"claimName": "x"})),
    "memory-for-claim": ("Deployment", volume("claim", emptyDir={})),
    "memory-for-a-secret": ("Deployment", volume("api-keys", emptyDir={})),
    "value-for-a-resource": ("Deployment", variable("OCTAVO_CPUS", value="64")),
    "secret-for-a-resource": (
        "Deployment",
        variable("OCTAVO_CPUS", valueFrom={"secretKeyRef": {"name": "x", "key": "y"}}),
    ),
    "field-for-a-resource": (
        "Deployment",
        variable("OCTAVO_CPUS", valueFrom={"fieldRef": {"fieldPath": "metadata.name"}}),
    ),
    "secret-for-a-value": (
        "Deployment",
        variable("HOME", valueFrom={"secretKeyRef": {"name": "x", "key": "y"}}),
    ),
    "localhost-profile": ("Deployment", localhost_profile),
    "container": ("Deployment", renamed_container),
    "external-name": (
        "Service",
        replaced(type="ExternalName", externalName="example.com", selector=None),
    ),
    "node-port": ("Service", replaced(type="NodePort", externalTrafficPolicy="Local")),
    "load-balancer": ("Service", replaced(type="LoadBalancer", loadBalancerClass="x.io/y")),
    "port": ("Service", other_port),
    "at-least-one": ("PodDisruptionBudget", replaced(maxUnavailable=None, minAvailable=1)),
    "every-peer": ("NetworkPolicy", replaced(ingress=[{}], policyTypes=["Ingress"], egress=None)),
}
"""What somebody may make of a child, of which the first thing is that fields exclude each other."""


@pytest.mark.usefixtures("operator")
def test_fields_that_exclude_each_other_are_swapped_back(cluster: Cluster) -> None:
    spec = {
        "model": {"uri": "pvc://weights/llama"},
        "resources": {"cpu": "1"},
        "auth": {"secretRef": {"name": "keys"}},
    }
    for name in SWAPS:
        strategy = "Recreate" if name == "rolling-update" else "Auto"
        create(cluster.admin, cluster.namespace, name, **spec, rollout={"strategy": strategy})
    failed = {}
    for name, (kind, change) in SWAPS.items():
        wait_until(partial(lambda name: set(cluster.children(name)) == ORDINARY, name))
        child = f"{COLLECTIONS[kind].format(cluster.namespace)}/{name}"
        live = cluster.admin.get(child) or {}
        wanted = copy.deepcopy(live["spec"])
        change(live)
        answer = cluster.admin.request("PUT", f"{child}?fieldManager=kubectl-edit", live)
        assert answer.status == 200, (name, answer.message)
        assert without_addresses(answer.body["spec"]) != without_addresses(wanted)

        def is_back(child: str, wanted: dict[str, Any]) -> bool:
            found = (cluster.admin.get(child) or {})["spec"]
            return without_addresses(found) == without_addresses(wanted)

        try:
            wait_until(partial(is_back, child, wanted), 15)
        except TimeoutError:
            status = (cluster.admin.get(path(cluster.namespace, name)) or {})["status"]
            failed[name] = status["conditions"][-1]["message"]
    assert failed == {}


def without_addresses(spec: dict[str, Any]) -> dict[str, Any]:
    """Without what the API server gives to a Service of another type anew."""
    return {key: value for key, value in spec.items() if not key.startswith("clusterIP")}


@pytest.mark.usefixtures("operator")
def test_what_a_repair_put_back_goes_with_the_spec_that_asked_for_it(cluster: Cluster) -> None:
    """The repair owns it under our name beside the applies, which alone would leave it there."""
    create(cluster.admin, cluster.namespace, resources={"cpu": "1"})
    cluster.wait_children()
    child = COLLECTIONS["Deployment"].format(cluster.namespace) + "/llama"

    def variables(deployment: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        return found

    def names() -> list[str]:
        return [each["name"] for each in variables(cluster.admin.get(child) or {})]

    live = cluster.admin.get(child) or {}
    variables(live)[1] = {"name": "MINE", "value": "64"}
    assert cluster.admin.request("PUT", f"{child}?fieldManager=kubectl-edit", live).status == 200
    wait_until(lambda: names() == ["HOME", "OCTAVO_CPUS"])
    cluster.admin.merge(path(cluster.namespace, "llama"), {"spec": {"resources": {"cpu": None}}})
    wait_until(lambda: names() == ["HOME"])


@pytest.mark.usefixtures("operator")
def test_what_an_orphaning_delete_left_is_adopted(cluster: Cluster) -> None:
    create(cluster.admin, cluster.namespace)
    before = cluster.wait_children()
    orphan = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}
    cluster.admin.request("DELETE", path(cluster.namespace, "llama"), orphan)
    # What the garbage collector would do, which does not run here.
    for kind in ORDINARY:
        child = COLLECTIONS[kind].format(cluster.namespace) + "/llama"
        cluster.admin.merge(child, {"metadata": {"ownerReferences": None}})
    cluster.admin.merge(path(cluster.namespace, "llama"), {"metadata": {"finalizers": None}})
    wait_until(lambda: cluster.admin.get(path(cluster.namespace, "llama")) is None)
    create(cluster.admin, cluster.namespace)
    owner = (cluster.admin.get(path(cluster.namespace, "llama")) or {})["metadata"]["uid"]

    def owners() -> set[str]:
        return {
            reference["uid"]
            for child in cluster.children().values()
            for reference in child["metadata"].get("ownerReferences", [{"uid": ""}])
        }

    wait_until(lambda: owners() == {owner})
    after = cluster.children()
    assert {kind: each["metadata"]["uid"] for kind, each in after.items()} == {
        kind: each["metadata"]["uid"] for kind, each in before.items()
    }


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
def test_a_spec_can_satisfy_a_quota_on_limits(cluster: Cluster) -> None:
    quotas = f"/api/v1/namespaces/{cluster.namespace}/resourcequotas"
    hard = {"limits.cpu": "100", "limits.memory": "100Gi", "limits.ephemeral-storage": "100Gi"}
    cluster.admin.create(quotas, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    used = dict.fromkeys(hard, "0")
    answer = cluster.admin.merge(f"{quotas}/q/status", {"status": {"hard": hard, "used": used}})
    assert answer.status == 200, answer.message
    every = {"cpu": "1", "memory": "1Gi", "ephemeralStorage": "1Gi"}
    create(
        cluster.admin,
        cluster.namespace,
        model={"uri": "hf://o/n"},
        resources={"cpuLimit": "2", "memory": "2Gi", "ephemeralStorage": "2Gi", "download": every},
    )
    cluster.wait_children()
    cluster.add_pod("llama-1", READY)


@pytest.mark.usefixtures("operator")
def test_scaling_changes_the_replicas_and_not_the_pods(cluster: Cluster) -> None:
    create(cluster.admin, cluster.namespace)
    template = cluster.wait_children()["Deployment"]["spec"]["template"]
    cluster.admin.merge(path(cluster.namespace, "llama") + "/scale", {"spec": {"replicas": 3}})
    wait_until(lambda: cluster.children()["Deployment"]["spec"]["replicas"] == 3)
    assert cluster.children()["Deployment"]["spec"]["template"] == template


@pytest.mark.usefixtures("operator")
def test_a_service_goes_out_of_the_cluster_and_comes_back(cluster: Cluster) -> None:
    """Ports of nodes that the API server allots, and a load balancer's own address, stand in nobody's way."""
    create(cluster.admin, cluster.namespace, auth={"secretRef": {"name": "keys"}})
    service = COLLECTIONS["Service"].format(cluster.namespace) + "/llama"
    resource = path(cluster.namespace, "llama")
    cluster.wait_children()

    def live() -> dict[str, Any]:
        return cluster.admin.get(service) or {}

    address = live()["spec"]["clusterIP"]
    for type_ in ("LoadBalancer", "NodePort", "LoadBalancer", "ClusterIP"):
        annotations = {"example.com/type": type_}
        wanted = {"type": type_, "annotations": annotations}
        cluster.admin.merge(resource, {"spec": {"service": wanted}})
        wait_until(partial(lambda wanted: live()["spec"]["type"] == wanted, type_))
        assert annotations.items() <= live()["metadata"]["annotations"].items()
        assert bool(live()["spec"]["ports"][0].get("nodePort")) == (type_ != "ClusterIP")
        assert live()["spec"]["clusterIP"] == address
        if type_ == "LoadBalancer":
            # As controllers of load balancers do.
            answer = cluster.admin.merge(service, {"spec": {"loadBalancerIP": "192.0.2.7"}})
            assert answer.status == 200, answer.message
            version = live()["metadata"]["resourceVersion"]
            # A pass over the object comes to its end with the status.
            cluster.admin.merge(resource, {"spec": {"replicas": 5}})
            wait_until(lambda: cluster.status().get("desiredReplicas") == 5)
            cluster.admin.merge(resource, {"spec": {"replicas": 1}})
            wait_until(lambda: cluster.status().get("desiredReplicas") == 1)
            assert live()["metadata"]["resourceVersion"] == version
            assert live()["spec"]["loadBalancerIP"] == "192.0.2.7"
    cluster.admin.merge(resource, {"spec": {"service": None}})
    wait_until(lambda: "example.com/type" not in live()["metadata"]["annotations"])
    assert cluster.condition("Degraded") == ("False", "AsExpected")


@pytest.mark.usefixtures("operator")
def test_a_cache_comes_and_goes_with_the_spec(cluster: Cluster) -> None:
    model = {"uri": "hf://o/n", "cache": {"size": "5Gi"}}
    create(cluster.admin, cluster.namespace, model=model)
    cluster.wait_children(ORDINARY | {"PersistentVolumeClaim"})
    cluster.admin.merge(path(cluster.namespace, "llama"), {"spec": {"model": {"cache": None}}})
    # Nothing here lifts the protection of claims, which a controller does.
    wait_until(
        lambda: "deletionTimestamp" in cluster.children()["PersistentVolumeClaim"]["metadata"]
    )


@pytest.mark.usefixtures("operator")
def test_pods_leave_a_claim_that_somebody_deleted_and_a_bound_one_keeps_its_class(
    cluster: Cluster,
) -> None:
    cache = {"size": "5Gi", "storageClassName": "fast"}
    create(cluster.admin, cluster.namespace, model={"uri": "hf://o/n", "cache": cache})
    cluster.wait_children(ORDINARY | {"PersistentVolumeClaim"})
    collection = COLLECTIONS["PersistentVolumeClaim"].format(cluster.namespace)

    def mounted() -> str:
        template = cluster.children()["Deployment"]["spec"]["template"]
        (found,) = (each for each in template["spec"]["volumes"] if each["name"] == "models")
        return str(found["persistentVolumeClaim"]["claimName"])

    def classes() -> dict[str, str]:
        return {
            each["metadata"]["name"]: each["spec"]["storageClassName"]
            for each in cluster.admin.items(collection)
        }

    # The protection of claims is admission's, and stays as no controller lifts it.
    cluster.admin.request("DELETE", f"{collection}/llama-models")
    wait_until(lambda: mounted() == "llama-models-2")
    assert classes() == {"llama-models": "fast", "llama-models-2": "fast"}
    cluster.admin.merge(f"{collection}/llama-models", {"metadata": {"finalizers": None}})
    wait_until(lambda: classes() == {"llama-models-2": "fast"})
    slower = {"spec": {"model": {"cache": {**cache, "storageClassName": "slow"}}}}
    bound = {"status": {"phase": "Bound"}}
    assert cluster.admin.merge(f"{collection}/llama-models-2/status", bound).status == 200
    assert cluster.admin.merge(path(cluster.namespace, "llama"), slower).status == 200
    wait_until(lambda: cluster.condition("Degraded") == ("True", "CacheImmutable"))
    assert mounted() == "llama-models-2"
    assert classes() == {"llama-models-2": "fast"}


@pytest.mark.usefixtures("operator")
def test_a_claim_that_was_never_bound_is_made_anew_with_the_class_that_is_asked_for(
    cluster: Cluster,
) -> None:
    cache = {"size": "5Gi", "storageClassName": "fats"}
    create(cluster.admin, cluster.namespace, model={"uri": "hf://o/n", "cache": cache})
    cluster.wait_children(ORDINARY | {"PersistentVolumeClaim"})
    collection = COLLECTIONS["PersistentVolumeClaim"].format(cluster.namespace)
    mended = {"spec": {"model": {"cache": {**cache, "storageClassName": "fast"}}}}
    assert cluster.admin.merge(path(cluster.namespace, "llama"), mended).status == 200

    def standing() -> set[str]:
        return {
            each["spec"]["storageClassName"]
            for each in cluster.admin.items(collection)
            if "deletionTimestamp" not in each["metadata"]
        }

    wait_until(lambda: standing() == {"fast"})


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


@pytest.mark.usefixtures("operator")
def test_what_belongs_to_somebody_else_is_not_taken_over(cluster: Cluster) -> None:
    accounts = COLLECTIONS["ServiceAccount"].format(cluster.namespace)
    foreign = cluster.admin.create(accounts, {"metadata": {"name": "llama"}})
    create(cluster.admin, cluster.namespace)
    wait_until(lambda: cluster.condition("Degraded") == ("True", "NameConflict"))
    assert cluster.children() == {}
    live = cluster.admin.get(f"{accounts}/llama") or {}
    assert live["metadata"]["resourceVersion"] == foreign["metadata"]["resourceVersion"]


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
    """With the lease's default times; a frozen process keeps its connections and answers nothing."""
    processes = []
    for name, port in zip(("one", "two"), free_ports(2), strict=True):
        process = OperatorProcess(
            control_plane,
            cluster.namespace,
            tmp_path / f"{name}.log",
            identity=name,
            health_port=str(port),
            lease_duration_seconds=str(Settings.model_fields["lease_duration_seconds"].default),
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
        frozen_at = time.monotonic()
        cluster.admin.request("DELETE", COLLECTIONS["Service"].format(cluster.namespace) + "/llama")
        wait_until(lambda: "Service" in cluster.children())
        took = time.monotonic() - frozen_at
        wait_until(two.is_ready)
        assert not one.is_ready()
        versions = cluster.versions()
    finally:
        one.send(signal.SIGCONT)
    assert cluster.children()["Service"]["metadata"]["uid"] != before
    assert one.stop(None) == 1
    assert one.says("lost the lease")
    assert one.text().count('"child"') == written
    assert cluster.versions() == versions
    assert two.stop() == 0
    assert took < 20


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
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{cluster.namespace}/leases"
    for name in names:
        lease = cluster.admin.get(f"{leases}/{name}") or {}
        (owner,) = lease["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == (
            "Pod",
            f"{name}-pod",
            f"uid-of-{name}",
        )
    assert [process.stop() for process in processes] == [0, 0]


class PrometheusStub:
    """Answers Prometheus' two queries: every pod has so many waiting requests, sampled now."""

    def __init__(self, namespace: str) -> None:
        self.waiting = {"llama-1": 0}
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_time = "timestamp" in self.path
                result = [
                    {
                        "metric": {
                            "__name__": "octavo_requests_waiting",
                            "namespace": namespace,
                            "pod": pod,
                        },
                        "value": [0, str(time.time() if is_time else waiting)],
                    }
                    for pod, waiting in stub.waiting.items()
                ]
                body = json.dumps({"data": {"result": result}}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_queue_moves_the_replicas_and_a_restart_does_not(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    stub = PrometheusStub(cluster.namespace)
    settings = {"prometheus_url": stub.url, "autoscale_interval_seconds": "0.2"}
    process = OperatorProcess(control_plane, cluster.namespace, tmp_path / "a.log", **settings)

    def replicas() -> int:
        return int(cluster.children()["Deployment"]["spec"]["replicas"])

    try:
        bounds = {"maxReplicas": 4, "queueDepth": 4, "scaleDownStabilization": "2s"}
        create(cluster.admin, cluster.namespace, autoscaling=bounds)
        cluster.wait_children()
        cluster.add_pod("llama-1", READY)
        wait_until(lambda: cluster.condition("Autoscaling") == ("True", "Active"))
        stub.waiting["llama-1"] = 11
        wait_until(lambda: replicas() == 3)
        wait_until(lambda: cluster.status()["queue"] == 11)
        process.stop()
        stub.waiting["llama-1"] = 1
        before = cluster.versions()["Deployment"]
        process = OperatorProcess(control_plane, cluster.namespace, tmp_path / "b.log", **settings)
        wait_until(lambda: cluster.status()["queue"] == 1)
        assert cluster.versions()["Deployment"] == before
        stub.waiting["llama-1"] = 0
        wait_until(lambda: replicas() == 1)
        events = f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events"
        notes = [
            each["note"] for each in cluster.admin.items(events) if each["reason"] == "Autoscaled"
        ]
        assert any("1 → 3" in note for note in notes)
    finally:
        process.stop()
        stub.stop()


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
