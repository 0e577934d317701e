"""The pages as a site: it builds with every link checked, and what newcomers read first is short and true."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "docs/architecture.md"
_SOURCES = (ROOT / "runtime/octavo", ROOT / "operator/octavo_operator", ROOT)
_PATH = re.compile(r"`([\w./-]+(?:\.py|/))`")


def test_the_site_builds_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    # Not --quiet: mkdocs then counts no warning, and --strict passes whatever it finds.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "index.html").exists()


def test_the_architecture_is_read_in_five_minutes() -> None:
    assert len(ARCHITECTURE.read_text("utf-8").split()) <= 900


def named_paths() -> list[Path]:
    """Each path on the page with its folder; a bare file lies in the folder of the path before it."""
    found: list[Path] = []
    for line in ARCHITECTURE.read_text("utf-8").splitlines():
        folder = Path()
        for text in _PATH.findall(line):
            path = Path(text)
            if path.parent == Path() and path.suffix and folder != Path():
                path = folder / path
            found.append(path)
            folder = path.parent
    return found


def test_the_architecture_names_paths() -> None:
    assert len(named_paths()) > 50


@pytest.mark.parametrize("path", sorted(set(named_paths())), ids=str)
def test_a_path_of_the_architecture_exists(path: Path) -> None:
    assert any((root / path).exists() for root in _SOURCES), path


@pytest.mark.parametrize(
    ("name", "package"), [("Runtime", "octavo"), ("Operator", "octavo_operator")]
)
def test_the_arrows_of_the_architecture_are_those_that_are_kept(name: str, package: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (layers,) = [
        each["layers"] for each in contracts["contracts"] if each.get("containers") == [package]
    ]
    arrows = " → ".join(re.sub(r" [|:] ", ", ", layer) for layer in layers)
    assert f"{name}: `{arrows}`." in ARCHITECTURE.read_text("utf-8")
