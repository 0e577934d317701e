"""Objects that were stored before a rule between fields was made."""

from __future__ import annotations

from functools import partial
from typing import Any

from octavo_operator.crd import crd
from tests.support.operator.admin import DEFINITIONS, MINIMAL, Admin, wait_until
from tests.support.operator.specs_without_effect import WITHOUT_EFFECT


def earlier_crd() -> dict[str, Any]:
    """The definition under a name of its own and without the rules between fields, as a release before them
    had it."""
    definition = renamed_crd()
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["x-kubernetes-validations"]
    del spec["properties"]["model"]["properties"]["uri"]["x-kubernetes-validations"]
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
    cases = {f"case-{index}": case for index, case in enumerate(WITHOUT_EFFECT)}
    wait_until(lambda: admin.request("GET", objects).status == 200)
    for name, (spec, *_) in cases.items():
        admin.create(objects, stored(name, spec))

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
        for subresource, change in (
            ("/scale", {"spec": {"replicas": 3}}),
            ("", {"spec": {"replicas": 2, "engine": {"seed": 7}}}),
            ("/status", {"status": {"replicas": 1}}),
            ("", {"spec": mend}),
        ):
            answer = admin.merge(f"{url}{subresource}", change)
            assert answer.status == 200, (name, change, answer.message)
        # What is right now cannot become wrong again.
        answer = admin.merge(url, {"spec": spec})
        assert answer.status == 422, (name, answer.body)
        assert field in answer.message
        assert sentence in answer.message
