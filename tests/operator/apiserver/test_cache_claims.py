"""Claims of the model cache on a real API server."""

from __future__ import annotations

import pytest

from tests.support.operator.admin import create, path, wait_until
from tests.support.operator.cluster import COLLECTIONS, ORDINARY, Cluster


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
def test_a_claim_of_either_name_that_lost_its_owner_is_taken_back(cluster: Cluster) -> None:
    """Another one beside it would have all pods start anew and download the model again."""
    create(cluster.admin, cluster.namespace, model={"uri": "hf://o/n", "cache": {"size": "5Gi"}})
    cluster.wait_children(ORDINARY | {"PersistentVolumeClaim"})
    collection = COLLECTIONS["PersistentVolumeClaim"].format(cluster.namespace)
    cluster.admin.request("DELETE", f"{collection}/llama-models")
    wait_until(lambda: cluster.admin.get(f"{collection}/llama-models-2") is not None)
    cluster.admin.merge(f"{collection}/llama-models", {"metadata": {"finalizers": None}})

    def owners() -> dict[str, int]:
        return {
            each["metadata"]["name"]: len(each["metadata"].get("ownerReferences", ()))
            for each in cluster.admin.items(collection)
        }

    wait_until(lambda: owners() == {"llama-models-2": 1})
    lost = cluster.admin.merge(
        f"{collection}/llama-models-2", {"metadata": {"ownerReferences": None}}
    )
    assert lost.status == 200, lost.message
    wait_until(lambda: owners() == {"llama-models-2": 1} or len(owners()) > 1)
    assert owners() == {"llama-models-2": 1}


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
def test_a_size_that_cannot_be_had_is_told_and_may_be_taken_back(cluster: Cluster) -> None:
    """Back to what the volume has: the API server takes no request that is not above it."""
    grows = {"provisioner": "example.com/none", "allowVolumeExpansion": True}
    name = f"grows-{cluster.namespace}"
    classes = "/apis/storage.k8s.io/v1/storageclasses"
    cluster.admin.create(classes, {"metadata": {"name": name}, **grows})
    cache = {"size": "5Gi", "storageClassName": name}
    where = path(cluster.namespace, "llama")

    def ask_for(size: str) -> None:
        asked = {"spec": {"model": {"cache": {"size": size}}}}
        assert cluster.admin.merge(where, asked).status == 200

    create(cluster.admin, cluster.namespace, model={"uri": "hf://o/n", "cache": cache})
    cluster.wait_children(ORDINARY | {"PersistentVolumeClaim"})
    claim = COLLECTIONS["PersistentVolumeClaim"].format(cluster.namespace) + "/llama-models"

    def requested() -> str:
        live = cluster.admin.get(claim) or {}
        return str(live["spec"]["resources"]["requests"]["storage"])

    bound = {"phase": "Bound", "capacity": {"storage": "5Gi"}}
    assert cluster.admin.merge(f"{claim}/status", {"status": bound}).status == 200
    ask_for("20Gi")
    wait_until(lambda: requested() == "20Gi")
    given_up = {
        "allocatedResources": {"storage": "20Gi"},
        "allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"},
    }
    assert cluster.admin.merge(f"{claim}/status", {"status": given_up}).status == 200
    wait_until(lambda: cluster.condition("Degraded") == ("True", "CacheResizeFailed"))
    ask_for("5Gi")
    wait_until(lambda: cluster.condition("Degraded") == ("False", "AsExpected"))
    assert requested() == "20Gi"
    ask_for("6Gi")
    wait_until(lambda: requested() == "6Gi")
    cluster.admin.request("DELETE", f"{classes}/{name}")
