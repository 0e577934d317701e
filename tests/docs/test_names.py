"""Names on the pages, in code: fields, values, reasons, flags and labels are those of the programs."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from e2e.cluster.cli import app as cluster_app
from e2e.demo.__main__ import _parser as demo_parser
from images.build import parse_options
from octavo.cli.main import app as octavo_app
from octavo_operator import manifest, names
from octavo_operator.api.conditions import ConditionStatus, ConditionType, Reason
from octavo_operator.crd import crd
from tests.support.requirements import Requirement

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "charts/octavo/README.md",
    *sorted((ROOT / "docs/how-to").glob("*.md")),
    *sorted((ROOT / "docs/tutorials").glob("*.md")),
    ROOT / "docs/reference/llmdeployment.md",
    ROOT / "docs/reference/pod-contract.md",
    ROOT / "docs/reference/recovery.md",
]
PLATFORM_PAGES = [page for page in PAGES if page.stem not in ("add-a-model", "embed")]
_BLOCK = re.compile(r"```.*?```", re.DOTALL)
_DEFINITION = crd()["spec"]
_VERSION = _DEFINITION["versions"][0]
_SCHEMA = _VERSION["schema"]["openAPIV3Schema"]["properties"]
_VALUES = yaml.safe_load((ROOT / "charts/octavo/values.yaml").read_text("utf-8"))

# Flags of programs that are not ours, as the pages type them.
FLAGS_OF_OTHERS = {
    "kubectl": "all-namespaces for from-literal namespace output overwrite patch previous recursive replicas "
    "selector type watch",
    "helm": "create-namespace install namespace reset-then-reuse-values reuse-values set set-string "
    "take-ownership wait",
    "docker": "gpus network read-only rm shm-size tag tmpfs",
}
# Words of Kubernetes and of other tools that are written like a reason.
WORDS_OF_OTHERS = {"Authorization", "Autoscaled", "Kustomization", "ReadOnlyMany"}


def of_page(page: Path) -> str:
    return str(page.relative_to(ROOT))


def spans(page: Path) -> list[str]:
    """What stands between backticks in the text."""
    return re.findall(r"`([^`\n]+)`", _BLOCK.sub("", page.read_text("utf-8")))


def code(page: Path) -> str:
    return "\n".join([*spans(page), *_BLOCK.findall(page.read_text("utf-8"))])


def fields(node: dict[str, Any]) -> dict[str, Any] | None:
    while node.get("type") == "array":
        node = node["items"]
    found: dict[str, Any] | None = node.get("properties")
    return found


def is_field(parts: list[str], node: dict[str, Any]) -> bool:
    for part in parts:
        known = fields(node)
        if known is None or part not in known:
            return "additionalProperties" in node
        node = known[part]
    return True


def is_value(parts: list[str]) -> bool:
    node = _VALUES
    for part in parts:
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_dotted_names_are_fields_of_the_resource_or_values_of_the_chart(page: Path) -> None:
    """`engine.maxModelLen`, `status.url`, `runtime.downloadPorts`."""
    first = {"spec", "status", *_SCHEMA["spec"]["properties"], *_VALUES}
    for name in re.findall(
        r"(?<![\w./-])[a-z]\w*(?:\.[a-z]\w*)+(?![\w./(-])", "\n".join(spans(page))
    ):
        parts = name.split(".")
        if parts[0] not in first:
            continue
        is_of_resource = parts[0] in _SCHEMA and is_field(parts[1:], _SCHEMA[parts[0]])
        assert is_of_resource or is_field(parts, _SCHEMA["spec"]) or is_value(parts), name


def enumerated(node: Any) -> Iterator[str]:
    """Every value that the definition lists for some field."""
    if isinstance(node, dict):
        yield from (each for each in node.get("enum", ()) if isinstance(each, str))
        for child in node.values():
            yield from enumerated(child)


@pytest.mark.parametrize("page", PLATFORM_PAGES, ids=of_page)
def test_words_in_capitals_are_reasons_conditions_kinds_or_values(page: Path) -> None:
    known = {*Reason, *ConditionType, *ConditionStatus, *enumerated(_SCHEMA), *WORDS_OF_OTHERS}
    known |= {_DEFINITION["names"]["kind"]}
    for span in spans(page):
        if re.fullmatch(r"[A-Z][a-z]+(?:[A-Z][A-Za-z]*)*", span):
            assert span in known, span


@functools.cache
def our_flags() -> frozenset[str]:
    found = {option for action in demo_parser()._actions for option in action.option_strings}
    commands: list[Any] = [*map(typer.main.get_command, (octavo_app, cluster_app))]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for parameter in command.params:
            found.update(parameter.opts, parameter.secondary_opts)
    with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.suppress(SystemExit):
        parse_options(["--help"], {})
    return frozenset(found | set(re.findall(r"--[\w-]+", told.getvalue())))


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_flags_are_taken_by_somebody(page: Path) -> None:
    known = our_flags() | {
        f"--{flag}" for flags in FLAGS_OF_OTHERS.values() for flag in flags.split()
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+\w", code(page))) <= known


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_labels_and_annotations_are_those_of_the_operator(page: Path) -> None:
    ours = {value for value in vars(names).values() if isinstance(value, str)}
    ours.add(manifest.LLM_DEPLOYMENT.api_version)
    assert set(re.findall(r"(?<![\w./-])octavo\.dev/[\w-]*\w", code(page))) <= ours


def keys(patch: Any, above: tuple[str, ...] = ()) -> Iterator[list[str]]:
    if isinstance(patch, dict):
        for key, value in patch.items():
            yield [*above, key]
            yield from keys(value, (*above, key))


def test_patches_of_a_model_change_fields_that_exist() -> None:
    text = "\n".join(map(code, PAGES))
    patches = re.findall(r"kubectl patch llmd .*?(?:-p|--patch) '(.*?)'", text)
    assert len(patches) >= 4
    for patch in map(json.loads, patches):
        for path in keys(patch["spec"]):
            assert is_field(path, _SCHEMA["spec"]), (path, patch)


def test_the_columns_that_kubectl_prints_are_those_of_the_definition() -> None:
    page = (ROOT / "docs/reference/llmdeployment.md").read_text("utf-8")
    columns = _VERSION["additionalPrinterColumns"]
    for pattern, priority in ((r"NAME, (.*)$", 0), (r"-o wide +# and (.*)$", 1)):
        (told,) = re.findall(pattern, page, re.MULTILINE)
        told = re.sub(r" \([^)]*\)", "", told)
        found = [each["name"].upper() for each in columns if each.get("priority", 0) == priority]
        assert told.split(", ") == found


def test_what_tests_may_require_is_listed() -> None:
    page = (ROOT / "docs/how-to/clusters.md").read_text("utf-8")
    (listed,) = re.findall(r"\| `OCTAVO_REQUIRE` \| some of `([^`]*)`", page)
    assert sorted(listed.split(",")) == sorted(Requirement)
