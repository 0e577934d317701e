"""Fields that reach a pod: what Kubernetes takes there is taken, and what it refuses is refused at apply."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.render.pod import pod_template
from tests.support.operator.admin import MINIMAL, Admin, create
from tests.support.operator.builders import pod_context


def is_taken_of_a_pod(
    admin: Admin,
    namespace: str,
    container: dict[str, Any] | None = None,
    *,
    labels: dict[str, str] | None = None,
    **pod: Any,
) -> bool:
    """Whether Kubernetes takes a Deployment whose pods have this."""
    chosen = {"app": "x"}
    template = {
        "metadata": {"labels": chosen | (labels or {})},
        "spec": {"containers": [{"name": "c", "image": "i", **(container or {})}], **pod},
    }
    deployment = {
        "metadata": {"generateName": "x-"},
        "spec": {"selector": {"matchLabels": chosen}, "template": template},
    }
    url = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    return admin.request("POST", url, deployment).status == 201


def is_read(**spec: Any) -> bool:
    """Whether the operator takes it."""
    try:
        LLMDeploymentSpec.model_validate({**MINIMAL, **spec})
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        "8",
        "500m",
        "1e3",
        "129e6",
        "1E2",
        "2e-1",
        "2E",
        "1Ei",
        ".5",
        "2.",
        "+1",
        "100u",
        "5n",
        "-1",
        "1K",
        "1ki",
        "1mi",
        "1i",
        "1_0",
        "1e",
        "1e1.5",
        "1e3Ki",
        "8,5",
        "lots",
        "NaN",
    ],
)
def test_a_quantity_is_what_a_pod_takes(admin: Admin, namespace: str, text: str) -> None:
    """The schema, the operator and Kubernetes' own kinds are of one mind."""
    is_pods = is_taken_of_a_pod(admin, namespace, {"resources": {"requests": {"cpu": text}}})
    assert (create(admin, namespace, resources={"cpu": text}).status == 201) is is_pods
    assert is_read(resources={"cpu": text}) is is_pods


TOLERATIONS: list[dict[str, Any]] = [
    {"operator": "Exists"},
    {"key": "", "operator": "Exists"},
    {"key": "a"},
    {"key": "a.example/b_C", "operator": "Equal", "value": "v"},
    {"key": "a", "value": ""},
    {"key": "a", "operator": "", "effect": "", "value": "b"},
    {"key": "a", "effect": "", "tolerationSeconds": 5},
    {"key": "a", "effect": "NoExecute", "tolerationSeconds": 5},
    {"key": "a", "effect": "NoExecute", "tolerationSeconds": -1},
    {},
    {"operator": "Equal", "value": "b"},
    {"key": "a", "operator": "Exists", "value": "b"},
    {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5},
    {"key": "a", "tolerationSeconds": 5},
    {"key": "a", "operator": "Maybe"},
    {"key": "a", "effect": "NoLunch"},
    {"key": "a b"},
    {"key": "a/b/c"},
    {"key": "a..b/c"},
    {"key": "x" * 64},
    {"key": "a", "value": "b c"},
    {"key": "a", "value": "v" * 64},
]


@pytest.mark.parametrize("toleration", TOLERATIONS, ids=str)
def test_a_toleration_is_what_a_pod_takes(
    admin: Admin, namespace: str, toleration: dict[str, Any]
) -> None:
    is_pods = is_taken_of_a_pod(admin, namespace, tolerations=[toleration])
    answer = create(admin, namespace, scheduling={"tolerations": [toleration]})
    assert (answer.status == 201) is is_pods
    assert is_pods or "spec.scheduling.tolerations[0]" in answer.message


NAMES = ["a", "a.b-c", "9", "x" * 253, "x" * 254, "a..b", "a.-b", "a-.b", "-a", "a-", "A", "a_b"]
KEYS = ["a", "A_b.c", "a.example/b", "x" * 63, "x" * 64, "a/" + "x" * 64, "A/b", "a..b/c", "a-/b"]
RESOURCES = [
    "example.com/gpu",
    "a/b.c",
    "-a/b",
    "a/-b",
    "a..b/c",
    "a/c_",
    "requests.example.com/gpu",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:8])
def test_a_name_is_what_a_pod_takes(admin: Admin, namespace: str, name: str) -> None:
    reference = {"secretKeyRef": {"name": name, "key": "k"}}
    is_secrets = is_taken_of_a_pod(
        admin, namespace, {"env": [{"name": "A", "valueFrom": reference}]}
    )
    auth = {"secretRef": {"name": name, "key": "k"}}
    assert (create(admin, namespace, "secret", auth=auth).status == 201) is is_secrets
    for field in ("priorityClassName", "runtimeClassName"):
        scheduling: dict[str, Any] = {field: name}
        is_pods = is_taken_of_a_pod(admin, namespace, **scheduling)
        answer = create(admin, namespace, field.lower(), scheduling=scheduling)
        assert (answer.status == 201) is is_pods is is_read(scheduling=scheduling)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:8])
def test_a_key_is_what_a_pod_takes(admin: Admin, namespace: str, key: str) -> None:
    is_pods = is_taken_of_a_pod(admin, namespace, labels={key: "v"}, nodeSelector={key: "v"})
    for name, spec in {
        "selector": {"scheduling": {"nodeSelector": {key: "v"}}},
        "labels": {"pods": {"labels": {key: "v"}}},
    }.items():
        assert (create(admin, namespace, name, **spec).status == 201) is is_pods is is_read(**spec)


@pytest.mark.parametrize("resource", RESOURCES)
def test_an_extended_resource_is_what_a_pod_takes(
    admin: Admin, namespace: str, resource: str
) -> None:
    is_pods = is_taken_of_a_pod(admin, namespace, {"resources": {"limits": {resource: "1"}}})
    resources = {"gpu": 1, "gpuResource": resource}
    assert (create(admin, namespace, resources=resources).status == 201) is is_pods


@pytest.mark.parametrize(
    ("resources", "is_taken"),
    [
        ({"cpu": 4, "cpuLimit": "4"}, True),
        ({"cpu": "500m", "cpuLimit": "0.5"}, True),
        ({"cpuLimit": "100m"}, True),
        ({"cpu": "4", "cpuLimit": 2}, False),
        ({"cpu": "501m", "cpuLimit": "0.5"}, False),
    ],
)
def test_a_limit_is_not_below_its_request(
    admin: Admin, namespace: str, resources: dict[str, Any], is_taken: bool
) -> None:
    answer = create(admin, namespace, resources=resources)
    assert (answer.status == 201) is is_taken
    assert is_taken or "spec.resources.cpuLimit: Invalid value" in answer.message
    rendered = pod_template(pod_context(resources=resources))["spec"]["containers"][0]
    assert is_taken_of_a_pod(admin, namespace, {"resources": rendered["resources"]}) is is_taken
