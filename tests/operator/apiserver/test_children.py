"""Children of an object as a real API server keeps them: made, changed with the spec, adopted."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.support.operator.admin import create, path, wait_until
from tests.support.operator.cluster import COLLECTIONS, ORDINARY, READY, Cluster


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
def test_a_name_of_63_characters_works(cluster: Cluster) -> None:
    name = "a" * 63
    create(cluster.admin, cluster.namespace, name)
    wait_until(lambda: set(cluster.children(name)) == ORDINARY)
    wait_until(lambda: cluster.condition("Ready", name)[1] == "Starting")


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

    def has(type_: str) -> bool:
        """A change of type may take more than one write."""
        found = live()
        told: str | None = found["metadata"]["annotations"].get("example.com/type")
        return told == type_ and bool(found["spec"]["type"] == type_)

    address = live()["spec"]["clusterIP"]
    for type_ in ("LoadBalancer", "NodePort", "LoadBalancer", "ClusterIP"):
        wanted = {"type": type_, "annotations": {"example.com/type": type_}}
        cluster.admin.merge(resource, {"spec": {"service": wanted}})
        wait_until(partial(has, type_))
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
def test_what_belongs_to_somebody_else_is_not_taken_over(cluster: Cluster) -> None:
    accounts = COLLECTIONS["ServiceAccount"].format(cluster.namespace)
    foreign = cluster.admin.create(accounts, {"metadata": {"name": "llama"}})
    create(cluster.admin, cluster.namespace)
    wait_until(lambda: cluster.condition("Degraded") == ("True", "NameConflict"))
    assert cluster.children() == {}
    live = cluster.admin.get(f"{accounts}/llama") or {}
    assert live["metadata"]["resourceVersion"] == foreign["metadata"]["resourceVersion"]
