from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from octavo_operator import crd
from tests.support.operator.schema import nodes

ROOT = Path(__file__).parents[2]


def schema() -> dict[str, Any]:
    found: dict[str, Any] = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


@pytest.mark.parametrize("path", list(crd.files(ROOT)), ids=str)
def test_the_generated_files_are_those_of_the_models(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == crd.files(ROOT)[path], "run `make crds`"


def test_check_reports_a_stale_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--root", str(tmp_path)]) == 0
    assert crd.main(["--root", str(tmp_path), "--check"]) == 0
    stale = next(iter(crd.files(tmp_path)))
    (tmp_path / stale).write_text("kind: Other\n", encoding="utf-8")
    assert crd.main(["--root", str(tmp_path), "--check"]) == 1
    assert str(stale) in capsys.readouterr().err


def test_every_node_is_structural() -> None:
    for path, node in nodes(schema()):
        assert not {"$ref", "title", "anyOf", "allOf", "oneOf", "not", "nullable"} & set(node) or (
            node.get("x-kubernetes-int-or-string")
        ), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert node.get("type") != "number", f"{path}: no floats"


def test_every_field_of_the_spec_is_described() -> None:
    for path, node in nodes(schema()["properties"]["spec"], ".spec"):
        if not path.endswith("[]"):
            assert node.get("description"), path


def test_everything_that_cel_reads_is_bounded() -> None:
    """Without bounds the API server refuses the rules for their cost."""
    for path, node in nodes(schema()["properties"]["spec"], ".spec"):
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if node.get("type") == "string" and "enum" not in node:
            assert "maxLength" in node, path


def test_a_rule_between_fields_lets_what_was_stored_before_it_be_changed() -> None:
    """Rules of an object with fields are asked whatever changes in it: `kubectl scale`, a new image."""
    for path, node in nodes(schema()):
        # In a list an item has no former self; it is not asked while the list is as it was.
        if "properties" in node and "[]" not in path:
            for rule in node.get("x-kubernetes-validations", ()):
                assert rule.get("optionalOldSelf"), (path, rule["message"])
    assert schema()["x-kubernetes-validations"]


def test_the_status_and_scale_subresources_are_served() -> None:
    version = crd.crd()["spec"]["versions"][0]
    assert version["subresources"]["scale"]["specReplicasPath"] == ".spec.replicas"
    # Without a default the scale subresource of an object without `replicas` answers with an error.
    assert schema()["properties"]["spec"]["properties"]["replicas"]["default"] == 1


def test_the_chart_holds_the_same_definition_between_its_switches() -> None:
    text = crd.chart_yaml()
    lines = [line for line in text.splitlines() if "{{" not in line]
    kept = [line for line in lines if line != "  annotations:" and "resource-policy" not in line]
    assert "\n".join(kept) + "\n" == crd.crd_yaml()
    assert text.count("{{- if") + text.count("{{- with") == text.count("{{- end }}") == 3


def test_a_type_that_kubernetes_cannot_express_is_refused() -> None:
    class Union(BaseModel):
        either: int | list[str]

    with pytest.raises(crd.UnsupportedSchemaError, match=r"\.either"):
        crd.structural(Union.model_json_schema())


def test_a_reference_keeps_its_siblings_and_drops_null() -> None:
    class Inner(BaseModel):
        value: int = 1

    class Outer(BaseModel):
        """Outer."""

        inner: Inner | None = None

    found = crd.structural(Outer.model_json_schema())["properties"]["inner"]
    assert found == {
        "type": "object",
        "properties": {"value": {"type": "integer", "default": 1}},
    }
