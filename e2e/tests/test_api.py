"""API server itself refuses a wrong spec with a sentence that names the field; no webhook is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.lib.install import OPERATOR, OPERATOR_NAMESPACE, ROOT
from e2e.lib.kubectl import Kubectl, Object
from host.errors import CommandError

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def llmd(spec: Object, name: str = "wrong") -> Object:
    return {
        "apiVersion": "octavo.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"uri": "builtin://demo"}, **spec},
    }


@pytest.mark.parametrize(
    ("spec", "field", "sentence"),
    [
        (
            {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
            "spec.autoscaling.maxReplicas",
            "must not be smaller than minReplicas",
        ),
        ({"model": {"uri": "../../etc"}}, "spec.model.uri", "must be hf://"),
        ({"model": {"uri": "hf://org/../../etc"}}, "spec.model.uri", "must be hf://"),
        ({"model": {"uri": "http://169.254.169.254/x"}}, "spec.model.uri", "must be hf://"),
        ({"model": {}}, "spec.model.uri", "Required value"),
        ({"replicas": -1}, "spec.replicas", "greater than or equal to 0"),
        ({"engine": {"maxNumSeqs": 0}}, "spec.engine.maxNumSeqs", "greater than or equal to 1"),
        ({"resources": {"memory": "lots"}}, "spec.resources.memory", "must be a quantity"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("spec.") else None,
)
def test_a_wrong_spec_is_refused_with_the_name_of_the_field(
    namespace: Kubectl, spec: Object, field: str, sentence: str
) -> None:
    answer = namespace.refusal(llmd(spec))
    assert field in answer
    assert sentence in answer
    assert namespace.get("llmd", "wrong") is None


@pytest.mark.parametrize("name", ["a" * 64, "1st", "a.b"])
def test_a_name_that_no_service_can_have_is_refused(namespace: Kubectl, name: str) -> None:
    answer = namespace.refusal(llmd({}, name))
    assert "metadata.name must be at most 63 characters" in answer


def test_a_misspelt_field_is_told(namespace: Kubectl) -> None:
    with pytest.raises(CommandError, match="maxModelLength"):
        namespace.apply(llmd({"engine": {"maxModelLength": 1}}), flags=["--validate=strict"])


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_is_accepted(namespace: Kubectl, file: Path) -> None:
    answer = namespace.apply(file, flags=["--dry-run=server", "--validate=strict"])
    assert "server dry run" in answer


def test_there_are_examples() -> None:
    assert "demo.yaml" in [file.name for file in EXAMPLES]


def test_the_resource_explains_itself(namespace: Kubectl) -> None:
    assert "hf://org/name" in namespace.run("explain", "llmd.spec.model.uri")
    found = json.loads(namespace.run("get", "all", "--output=json"))
    assert found["items"] == []


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "patch", "delete"])
def test_the_operator_may_do_nothing_with_secrets(octavo: Kubectl, verb: str) -> None:
    account = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR}"
    with pytest.raises(CommandError, match=r"(?m)^no$"):
        octavo.run("auth", "can-i", verb, "secrets", "--all-namespaces", f"--as={account}")


def test_the_operators_namespace_admits_restricted_pods_alone(octavo: Kubectl) -> None:
    system = octavo.within(OPERATOR_NAMESPACE)
    with pytest.raises(CommandError, match='violates PodSecurity "restricted'):
        system.run("run", "loose", "--image=any", "--dry-run=server")
    assert {pod["status"]["phase"] for pod in system.list("pods")} == {"Running"}
