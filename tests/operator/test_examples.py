"""Every example parses, renders and keeps its promises; a cluster's answer is asked elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.manifest import DEPLOYMENT
from tests.support.operator.builders import children

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_is_a_spec_without_surplus_fields(file: Path) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert document["apiVersion"] == "octavo.dev/v1alpha1"
    LLMDeploymentSpec.model_validate(document["spec"], extra="forbid")
    assert children(**document["spec"])[-1].key.kind is DEPLOYMENT


def test_the_demo_needs_neither_gpu_nor_download() -> None:
    (demo,) = (file for file in EXAMPLES if file.name == "demo.yaml")
    spec = LLMDeploymentSpec.model_validate(yaml.safe_load(demo.read_text())["spec"])
    assert spec.model.uri == "builtin://demo"
    assert spec.resources.gpu == 0
