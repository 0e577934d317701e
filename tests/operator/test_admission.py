"""Admission: replicas of one revision that the cluster admitted differently are told where users look."""

from __future__ import annotations

from typing import Any

import pytest

from octavo_operator.admission import admitted, difference
from octavo_operator.manifest import POD
from tests.support.operator.builders import KEY
from tests.support.operator.world import running

ALIKE = {"priority": 10, "containers": [{"name": "octavo", "resources": {"limits": {"cpu": "2"}}}]}


def container_with(**resources: Any) -> dict[str, Any]:
    return {"containers": [{"name": "octavo", "resources": resources}]}


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"priority": 99}, "priority 10 (a); 99 (b)"),
        ({"overhead": {"memory": "64Mi"}}, "overhead.memory 64Mi (b); none (a)"),
        (container_with(limits={"cpu": "500m"}), "limits.cpu 2 (a); 500m (b)"),
        (container_with(limits={}), "limits.cpu 2 (a); none (b)"),
        (
            container_with(limits={"cpu": "2"}, requests={"memory": "1Gi"}),
            "requests.memory 1Gi (b); none (a)",
        ),
        ({"priority": 9, **container_with()}, "priority 10 (a); 9 (b), limits.cpu 2 (a); none (b)"),
    ],
)
def test_what_differs_is_told_by_its_field_and_the_pods_that_have_it(
    other: dict[str, Any], told: str
) -> None:
    specs = {"a": ALIKE, "b": {**ALIKE, **other}}
    message = difference({name: admitted({"spec": each}) for name, each in specs.items()})
    assert message.startswith(
        f"the cluster admitted replicas of one revision differently: {told}; pods"
    )


def test_a_sidecar_of_the_cluster_s_has_what_it_likes() -> None:
    sidecar = {"name": "proxy", "resources": {"limits": {"cpu": "1"}}}
    with_one = {**ALIKE, "containers": [sidecar, *ALIKE["containers"]]}  # type: ignore[misc]
    assert difference({"a": admitted({"spec": ALIKE}), "b": admitted({"spec": with_one})}) == ""


def test_replicas_that_are_alike_again_are_not_told() -> None:
    world = running(replicas=2)

    def told_of(priority: int) -> str:
        pod = world.kube.live(POD, KEY.namespace, f"{KEY.name}-1")
        pod["spec"]["priority"] = priority
        world.reconcile()
        assert world.condition("Ready") == ("True", "Serving")
        assert world.condition("Degraded") == ("False", "AsExpected")
        conditions = world.status["conditions"]
        return next(str(each["message"]) for each in conditions if each["type"] == "Ready")

    assert "priority 0 (llama-0); 7 (llama-1)" in told_of(7)
    assert "priority" not in told_of(0)
