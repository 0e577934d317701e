"""A real API server's admission: what it gives pods changes without a revision, and the status says so."""

from __future__ import annotations

import pytest

from tests.support.operator.admin import create, wait_until
from tests.support.operator.cluster import READY, Cluster


@pytest.mark.usefixtures("operator")
def test_a_class_that_was_replaced_under_its_name_and_a_limit_range_are_told(
    cluster: Cluster,
) -> None:
    admin, name = cluster.admin, f"class-{cluster.namespace}"
    priorities = "/apis/scheduling.k8s.io/v1/priorityclasses"
    runtimes = "/apis/node.k8s.io/v1/runtimeclasses"

    def make(value: int, memory: str) -> None:
        overhead = {"overhead": {"podFixed": {"memory": memory}}}
        admin.create(priorities, {"metadata": {"name": name}, "value": value})
        admin.create(runtimes, {"metadata": {"name": name}, "handler": "h", **overhead})

    def remove() -> None:
        for collection in (priorities, runtimes):
            admin.request("DELETE", f"{collection}/{name}")

    def told() -> str:
        conditions = cluster.status().get("conditions", ())
        return next((str(each["message"]) for each in conditions if each["type"] == "Ready"), "")

    make(10, "32Mi")
    scheduling = {"priorityClassName": name, "runtimeClassName": name}
    create(admin, cluster.namespace, replicas=2, scheduling=scheduling)
    cluster.wait_children()
    cluster.add_pod("llama-1", READY)
    remove()
    make(99, "64Mi")
    limits = {"limits": [{"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "2"}}]}
    ranges = f"/api/v1/namespaces/{cluster.namespace}/limitranges"
    admin.create(ranges, {"metadata": {"name": "one"}, "spec": limits})

    template = cluster.children()["Deployment"]["spec"]["template"]
    pod = {"metadata": {"name": "llama-2"}, "spec": template["spec"]}

    def admits_anew() -> bool:
        """Admission's view of these may be a moment behind."""
        pods = f"/api/v1/namespaces/{cluster.namespace}/pods?dryRun=All"
        spec = admin.request("POST", pods, pod).body.get("spec", {})
        given = (spec.get("priority"), spec.get("overhead"))
        limits = spec and spec["containers"][0]["resources"].get("limits")
        return (*given, limits) == (99, {"memory": "64Mi"}, {"cpu": "2"})

    wait_until(admits_anew)
    cluster.add_pod("llama-2", READY)
    cluster.lead_to("llama-1", "llama-2")
    wait_until(lambda: cluster.condition("Ready") == ("True", "Serving"))
    wait_until(lambda: "limits.cpu 2 (llama-2); none (llama-1)" in told())
    assert "priority 10 (llama-1); 99 (llama-2)" in told()
    assert "overhead.memory 32Mi (llama-1); 64Mi (llama-2)" in told()
    assert cluster.condition("Degraded") == ("False", "AsExpected")
    assert cluster.children()["Deployment"]["spec"]["template"] == template
    remove()
