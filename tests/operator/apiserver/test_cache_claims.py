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
