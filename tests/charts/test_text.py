"""Text of the values stays text in what is rendered, whatever YAML would read in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.support.operator.helm import CHART, helm

# What YAML 1.1, YAML 1.2 or Go's parser takes for something else: PyYAML knows the first of them alone.
WORDS = ("on", "y", "null", "off", "1e3", "0x10", "0o17", "12:30:45", "2024-01-01", ".5", "~")
OF_KUBERNETES = {"affinity", "podSecurityContext", "securityContext", "resources"}
"""Objects that stand in the chart's as they are; so do the items of lists without a form of their own."""
APART = (
    {"metrics.serviceMonitor.enabled", "prometheus.ca.secretName"},
    {"metrics.podMonitor.enabled", "prometheus.ca.configMapName"},
)
"""Of what excludes each other one side is left out, and has its turn with the next word."""

Schema = dict[str, Any]
SCHEMA: Schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


def takes(schema: Schema, value: object) -> bool:
    whole = {"$defs": SCHEMA["$defs"], **schema}
    return bool(Draft202012Validator(whole).is_valid(value))


def filled(schema: Schema, default: object, word: str, path: str, left_out: set[str]) -> object:
    """A value with `word` wherever the schema takes it; otherwise as it is by default, and switched on."""
    if path in OF_KUBERNETES or path in left_out:
        return default
    if "$ref" in schema:
        schema = {**SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    match schema.get("type"):
        case "boolean":
            # The definition is the same whatever the values are, but for its labels, which all objects have.
            return path not in ("prometheus.bearerToken.serviceAccount", "crds.install")
        case "array" if (
            schema["items"].get("properties")
            or schema["items"].get("$ref")
            or (schema["items"].get("type") == "string")
        ):
            item = filled(schema["items"], None, word, f"{path}[]", left_out)
            return [item] if takes(schema["items"], item) else default
        case "object" if "properties" in schema:
            known = default if isinstance(default, dict) else {}
            found = {
                name: filled(each, known.get(name), word, f"{path}.{name}".strip("."), left_out)
                for name, each in schema["properties"].items()
                if name in known or not known
            }
            return {name: value for name, value in found.items() if value is not None}
        case "object":
            return {word: word, "x": word} if takes(schema, {word: word}) else default
    return word if takes(schema, word) else default


def plain_scalars(text: str) -> Iterator[str]:
    """What stands without quotes, keys too."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.ScalarEvent) and event.style is None:
            yield event.value


@pytest.mark.parametrize("word", WORDS)
def test_no_text_is_read_as_anything_else(word: str, tmp_path: Path) -> None:
    """All values that take the word have it at once, the names of release and namespace too."""
    left_out = APART[WORDS.index(word) % len(APART)]
    values = filled(SCHEMA, VALUES, word, "", left_out)
    assert isinstance(values, dict)
    file = tmp_path / "values.json"
    file.write_text(json.dumps({**values, "replicaCount": 2}), encoding="utf-8")
    name = word if word.isalnum() and word[0].isalpha() else "octavo"
    namespace = word if takes({"$ref": "#/$defs/namespace"}, word) else "octavo"
    done = helm("template", name, str(CHART), "--namespace", namespace, "--values", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f'"{word}"') > 10
    assert word not in set(plain_scalars(done.stdout))
