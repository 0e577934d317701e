"""Repairs on a real API server: what others change in a child is undone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.operator.admin import create, path, wait_until
from tests.support.operator.cluster import COLLECTIONS, ORDINARY, Cluster
from tests.support.operator.operator_process import OperatorProcess


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


def test_what_others_add_to_a_child_is_taken_out_again(
    cluster: Cluster, operator: OperatorProcess
) -> None:
    """Server-side apply alone would leave it: what others own stays. What comes back is a default, which is
    ours as what we wrote, and taking it out once more changes nothing."""
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

    def repairs_after(passes: int) -> int:
        """As the log tells them, one line for each child that is written. The policy is each pass's own."""
        for _ in range(passes):
            cluster.admin.request("DELETE", policy)
            wait_until(lambda: "NetworkPolicy" in cluster.children())
        return operator.text().count('"event": "child"') - operator.text().count(GONE)

    repairs_after(2)  # the first look at what came back may find no more than that
    settled = versions(cluster.children())
    repairs = repairs_after(0)
    assert repairs_after(2) == repairs
    del settled["NetworkPolicy"]
    assert versions(cluster.children()).items() >= settled.items()


GONE = '"why": "missing"'
"""In the log, of a child that was made anew."""


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


def other_draft(deployment: dict[str, Any]) -> None:
    (fetch,) = deployment["spec"]["template"]["spec"]["initContainers"]
    fetch["args"][1] = "hf://somebody/else"
    fetch["envFrom"] = [{"secretRef": {"name": "mine"}}]


def no_draft(deployment: dict[str, Any]) -> None:
    del deployment["spec"]["template"]["spec"]["initContainers"]


def variable_twice(deployment: dict[str, Any]) -> None:
    """Which of the two holds depends on their order."""
    variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    variables.insert(0, {**variables[0], "value": "/root"})


def forgotten_sidecar(deployment: dict[str, Any]) -> None:
    """Nothing tells any more who wrote what."""
    deployment["metadata"]["managedFields"] = [{}]
    sidecar = {"name": "sidecar", "image": "registry.example/sidecar:1"}
    deployment["spec"]["template"]["spec"]["containers"].append(sidecar)


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
    "variable-twice": ("Deployment", variable_twice),
    "forgotten-sidecar": ("Deployment", forgotten_sidecar),
    "draft": ("Deployment", other_draft),
    "no-draft": ("Deployment", no_draft),
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
        "engine": {
            "speculative": {
                "method": "draft_model",
                "model": {"uri": "hf://org/draft", "secretRef": {"name": "token"}},
            }
        },
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
            wait_until(partial(is_back, child, wanted))
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
def test_what_no_update_makes_ours_is_made_anew(cluster: Cluster) -> None:
    """A Service without an address, and a Deployment of another selector, both in the place of ours with all
    of our metadata, as `kubectl replace --force` makes them."""
    create(cluster.admin, cluster.namespace)
    pristine = cluster.wait_children()
    for kind, change in (("Service", headless), ("Deployment", other_selector)):
        collection = COLLECTIONS[kind].format(cluster.namespace)
        made = copy.deepcopy(pristine[kind])
        for field in ("uid", "resourceVersion", "managedFields", "creationTimestamp"):
            del made["metadata"][field]
        change(made)

        def in_its_place(collection: str = collection, made: dict[str, Any] = made) -> bool:
            cluster.admin.request("DELETE", f"{collection}/llama")
            return cluster.admin.request("POST", collection, made).status == 201

        wait_until(in_its_place)
        wanted = without_addresses(pristine[kind]["spec"])

        def is_ours(kind: str = kind, wanted: dict[str, Any] = wanted) -> bool:
            live = cluster.children().get(kind)
            if live is not None and "deletionTimestamp" in live["metadata"]:
                # As the collector of garbage does when what it owned is nobody's.
                where = COLLECTIONS[kind].format(cluster.namespace) + "/llama"
                cluster.admin.merge(where, {"metadata": {"finalizers": None}})
                return False
            return live is not None and without_addresses(live["spec"]) == wanted

        wait_until(is_ours)
    assert (cluster.children()["Service"])["spec"]["clusterIP"] != "None"


def headless(service: dict[str, Any]) -> None:
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        del service["spec"][field]
    service["spec"]["clusterIP"] = "None"


def other_selector(deployment: dict[str, Any]) -> None:
    deployment["spec"]["selector"]["matchLabels"]["team"] = "blue"
    deployment["spec"]["template"]["metadata"]["labels"]["team"] = "blue"


@pytest.mark.usefixtures("operator")
def test_a_port_that_a_policy_changed_is_told_and_put_right_when_the_policy_is_gone(
    cluster: Cluster,
) -> None:
    """Nobody owns what the policy made of our apply."""
    create(cluster.admin, cluster.namespace)
    cluster.wait_children()
    service = COLLECTIONS["Service"].format(cluster.namespace) + "/llama"
    change = '[JSONPatch{op: "replace", path: "/spec/ports/0/port", value: 9000}]'
    remove = cluster.mutate(
        {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["services"]}, change
    )

    def port_after(text: str) -> int:
        """After an edit of the spec that has the Service applied, if only that."""
        edited = {"spec": {"service": {"annotations": {"example.com/edit": text}}}}
        cluster.admin.merge(path(cluster.namespace, "llama"), edited)
        wait_until(lambda: cluster.status().get("observedGeneration") == cluster.generation())
        (port,) = (cluster.admin.get(service) or {})["spec"]["ports"]
        return int(port["port"])

    edits = iter(map(str, range(10**6)))
    wait_until(lambda: port_after(next(edits)) == 9000)  # a policy is in force a moment later
    wait_until(lambda: cluster.condition("Degraded") == ("True", "Contested"))
    assert cluster.condition("Ready") == ("False", "Contested")
    remove()
    wait_until(lambda: port_after(next(edits)) == 8000)
    wait_until(lambda: cluster.condition("Degraded") == ("False", "AsExpected"))
