"""Every example parses, renders and keeps its promises; a cluster's answer is asked elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec, ServiceType
from octavo_operator.manifest import DEPLOYMENT, Manifest, ObjectKey
from octavo_operator.manifest import SERVICE as SERVICE_KIND
from tests.support.operator.builders import children

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_is_a_spec_without_surplus_fields(file: Path) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert document["apiVersion"] == "octavo.dev/v1alpha1"
    LLMDeploymentSpec.model_validate(document["spec"], extra="forbid")
    assert children(**document["spec"])[-1].key.kind is DEPLOYMENT


OUTSIDE = sorted((Path(__file__).parents[2] / "examples" / "outside").glob("*.yaml"))


@pytest.mark.parametrize("file", OUTSIDE, ids=lambda file: file.name)
def test_a_way_in_from_outside_leads_to_the_service_of_its_model_and_asks_for_a_key(
    file: Path,
) -> None:
    model, *routes = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    spec = LLMDeploymentSpec.model_validate(model["spec"], extra="forbid")
    assert spec.auth is not None
    key = ObjectKey("default", model["metadata"]["name"])
    (service,) = [
        each.manifest
        for each in children(key=key, **model["spec"])
        if each.key.kind is SERVICE_KIND
    ]
    (port,) = service["spec"]["ports"]
    for backend in (each for route in routes for each in _backends(route)):
        assert backend["name"] == service["metadata"]["name"]
        assert backend["port"] in (port["port"], {"name": port["name"]}, {"number": port["port"]})
    assert bool(routes) == (spec.service.type is ServiceType.CLUSTER_IP)


def _backends(route: Manifest) -> list[Manifest]:
    """What a route leads to, by name and port."""
    rules = route["spec"]["rules"]
    if route["kind"] == "HTTPRoute":
        return [backend for rule in rules for backend in rule["backendRefs"]]
    return [path["backend"]["service"] for rule in rules for path in rule["http"]["paths"]]


def test_the_demo_needs_neither_gpu_nor_download() -> None:
    (demo,) = (file for file in EXAMPLES if file.name == "demo.yaml")
    spec = LLMDeploymentSpec.model_validate(yaml.safe_load(demo.read_text())["spec"])
    assert spec.model.uri == "builtin://demo"
    assert spec.resources.gpu == 0
