"""Objects that were stored before a rule between fields was made."""

from __future__ import annotations

from functools import partial
from typing import Any

from octavo_operator.crd import crd
from tests.support.operator.admin import DEFINITIONS, MINIMAL, Admin, wait_until
from tests.support.operator.refused_specs import BETWEEN_FIELDS
from tests.support.operator.schema import nodes

ELSEWHERE: tuple[dict[str, Any], ...] = (
    {"engine": {"seed": 7}},
    {"autoscaling": {"maxReplicas": 2, "queueDepth": 7}},
    {"model": {"servedNames": ["other"]}},
    {"resources": {"ephemeralStorage": "1Gi"}},
    {"rollout": {"strategy": "Recreate"}},
    {"scheduling": {"priorityClassName": "high"}},
    {"service": {"annotations": {"a": "b"}}},
    {"runtime": {"version": "2"}},
    {"server": {"publicMetrics": True}},
    {"auth": {"secretRef": {"key": "token"}}},
)
"""Changes of each part of a spec that mend nothing."""


def earlier_crd() -> dict[str, Any]:
    """The definition under a name of its own and without rules of CEL, as a release before them had it."""
    definition = renamed_crd()
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for _, node in nodes(schema):
        node.pop("x-kubernetes-validations", None)
    return definition


def renamed_crd() -> dict[str, Any]:
    definition = crd()
    definition["metadata"]["name"] = "llmdeployments.stored.example"
    definition["spec"]["group"] = "stored.example"
    definition["spec"]["names"].pop("categories")
    definition["spec"]["names"].pop("shortNames")
    return definition


def stored(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "stored.example/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {**MINIMAL, **spec},
    }


def test_what_was_stored_before_a_rule_is_changed_and_scaled_on_until_it_is_put_right(
    admin: Admin, namespace: str
) -> None:
    objects = f"/apis/stored.example/v1alpha1/namespaces/{namespace}/llmdeployments"
    admin.install_crd(earlier_crd())
    cases = {f"case-{index}": case for index, case in enumerate(BETWEEN_FIELDS)}
    wait_until(lambda: admin.request("GET", objects).status == 200)
    for name, (spec, *_) in cases.items():
        admin.create(objects, stored(name, spec))
    admin.create(objects, stored("1-has.no-service", {}))

    def is_refused(body: dict[str, Any]) -> bool:
        return admin.request("POST", f"{objects}?dryRun=All", body).status == 422

    definition = renamed_crd()
    url = f"{DEFINITIONS}/{definition['metadata']['name']}"
    answer = admin.merge(url, {"spec": definition["spec"]})
    assert answer.status == 200, answer.message
    for spec, *_ in cases.values():
        wait_until(partial(is_refused, stored("new", spec)))
    for name, (spec, field, sentence, mend) in cases.items():
        url = f"{objects}/{name}"
        present = admin.request("GET", url).body["spec"]
        for subresource, change in (
            ("/scale", {"spec": {"replicas": 3}}),
            ("/status", {"status": {"replicas": 1}}),
            *(("", {"spec": part}) for part in ELSEWHERE if set(part) <= set(present)),
            ("", {"spec": mend}),
        ):
            answer = admin.merge(f"{url}{subresource}", change)
            assert answer.status == 200, (name, change, answer.message)
        # What is right now cannot become wrong again.
        answer = admin.merge(url, {"spec": spec})
        assert answer.status == 422, (name, answer.body)
        assert field in answer.message
        assert sentence in answer.message
    for subresource, change in (
        ("/scale", {"spec": {"replicas": 3}}),
        ("/status", {"status": {"replicas": 1}}),
    ):
        answer = admin.merge(f"{objects}/1-has.no-service{subresource}", change)
        assert answer.status == 200, answer.message
