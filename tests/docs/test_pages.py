"""What the pages tell a reader to type exists: links, files, make targets, programs, variables, specs."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "CHANGELOG.md",
    ROOT / "charts/octavo/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
READERS_PAGES = [page for page in PAGES if page.name not in ("architecture.md", "demo-model.md")]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?<![\w./~-])(?:charts|crds|docs|examples|images|locks|operator)/[\w./-]+\w")
_MODULE = re.compile(r"(\S*)python3? -m ((?:e2e|images|octavo|benchmarks|training)[\w.]*)")


def of_page(page: Path) -> str:
    return str(page.relative_to(ROOT))


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text("utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in headings(found), target


@pytest.mark.parametrize("page", READERS_PAGES, ids=of_page)
def test_files_that_are_named_exist(page: Path) -> None:
    missing = [
        path
        for path in _PATH.findall(page.read_text("utf-8"))
        if not (ROOT / path).exists() and not (page.parent / path).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    known = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    code = re.findall(r"```.*?```|`[^`\n]+`", page.read_text("utf-8"), re.DOTALL)
    typed = re.findall(r"\bmake ((?:[a-z][a-z0-9-]* ?)+)", "\n".join(code))
    assert {target for line in typed for target in line.split()} <= known


@pytest.mark.parametrize("page", READERS_PAGES, ids=of_page)
def test_programs_exist_and_are_run_by_the_python_that_has_their_packages(page: Path) -> None:
    for folder, module in _MODULE.findall(page.read_text("utf-8")):
        assert importlib.util.find_spec(module) is not None, module
        assert module == "octavo" or folder.endswith(".venv/bin/"), module


@pytest.mark.parametrize("page", READERS_PAGES, ids=of_page)
def test_variables_are_read_by_somebody(page: Path) -> None:
    named = set(re.findall(r"OCTAVO_[A-Z][A-Z0-9_]+[A-Z]", page.read_text("utf-8")))
    assert named <= _variables()


@functools.cache
def _variables() -> frozenset[str]:
    """Every variable of ours that the sources or the tests know."""
    folders = ("operator", "runtime", "host", "images", "e2e", "tests/support")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    text = "\n".join(file.read_text("utf-8") for file in files)
    settings = {f"OCTAVO_OPERATOR_{name.upper()}" for name in Settings.model_fields}
    return frozenset({*re.findall(r"OCTAVO_[A-Z0-9_]+", text), *settings})


def deployments() -> Iterator[tuple[str, object]]:
    """The spec of each LLMDeployment that a page shows."""
    for page in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for document in yaml.safe_load_all(block):
                if isinstance(document, dict) and document.get("kind") == "LLMDeployment":
                    yield of_page(page), document["spec"]


def test_specs_that_are_shown_are_valid() -> None:
    shown = list(deployments())
    assert {page for page, _ in shown} >= {"README.md", "docs/how-to/own-cluster.md"}
    for _, spec in shown:
        LLMDeploymentSpec.model_validate(spec, extra="forbid")
