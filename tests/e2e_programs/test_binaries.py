"""Only programs of a version that fits are taken from PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.paths import Layout
from e2e.programs import binaries
from host.errors import ToolError


@pytest.mark.parametrize(
    ("output", "fits"),
    [
        ("kind v0.33.0 go1.26.0 linux/amd64", True),
        ("kind v0.29.0 go1.22.1 linux/amd64", False),
        ("kind v1.0.0", True),
        ("not a version", False),
    ],
)
def test_kind_must_be_new_enough(output: str, fits: bool) -> None:
    assert binaries.fits_kind(output) is fits


@pytest.mark.parametrize(
    ("output", "fits"),
    [
        ('{"clientVersion": {"gitVersion": "v1.36.3"}}', True),
        ('{"clientVersion": {"gitVersion": "v1.32.4-dispatcher"}}', False),
        ("{}", False),
    ],
)
def test_kubectl_must_be_within_the_skew(output: str, fits: bool) -> None:
    assert binaries.fits_kubectl(output) is fits


@pytest.mark.parametrize(
    ("output", "fits"), [("v3.18.4+gd80839c", True), ("v4.3.1", True), ("v2.17.0", False)]
)
def test_helm_must_be_of_a_known_major_version(output: str, fits: bool) -> None:
    assert binaries.fits_helm(output) is fits


def test_a_program_that_must_be_built_without_go_names_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ToolError, match=r"pause v1 must be built with Go: Go was not found on PATH"
    ):
        binaries.go_tool("pause", Layout(tmp_path))


def test_an_old_program_on_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "cache")
    built = layout.binaries("kind", "v0.33.0") / "kind"
    built.parent.mkdir(parents=True)
    built.touch()
    old = tmp_path / "bin/kind"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho kind v0.11.1 go1.16\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin:/bin")
    assert binaries.kind(layout) == built
    assert "kind" not in binaries.missing(layout)
    new = tmp_path / "new/kind"
    new.parent.mkdir()
    new.write_text("#!/bin/sh\necho kind v0.34.0 go1.26\n")
    new.chmod(0o755)
    monkeypatch.setenv("PATH", f"{new.parent}:/usr/bin:/bin")
    assert binaries.kind(layout) == new


def test_a_cluster_of_ones_own_is_reached_with_any_kubectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "kubectl"
    program.write_text('#!/bin/sh\necho \'{"gitVersion": "v1.29.0"}\'\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert binaries.any_kubectl(Layout(tmp_path / "cache")) == program
    with pytest.raises(ToolError, match="must be built"):
        binaries.kubectl(Layout(tmp_path / "cache"))


def test_an_unknown_program_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="There is no program nothing; there are kind"):
        binaries.build_tools(["nothing"], Layout(tmp_path))
