"""Which Go builds our programs, and what a distribution's Go is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.programs import go
from e2e.programs.binaries import tools_folder
from host.errors import ToolError


def install(folder: Path, version: str) -> None:
    """A `go` that only tells its version."""
    program = folder / "go"
    program.write_text(f"#!/bin/sh\necho go version {version} linux/amd64\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go version go1.19 linux/amd64", (1, 19, 0)),
        ("go version devel go1.27-1a2b3c Fri Nov 20 linux/amd64", (1, 27, 0)),
        ("go 1.26.6", (1, 26, 6)),
        ("sh: go: not found", None),
    ],
)
def test_a_version_is_read(output: str, version: go.Version | None) -> None:
    assert go.parse_version(output) == version


def test_a_go_that_cannot_read_our_modules_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "go1.19.8")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert go.installed() == (1, 19, 8)
    with pytest.raises(ToolError, match=r"kind v1 must be built with Go: .*1\.19\.8") as caught:
        go.command("kind v1")
    assert "1.26" in caught.value.hint


def test_an_older_go_fetches_its_toolchain_and_a_new_one_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOTOOLCHAIN", "local")
    module = tmp_path / "module"
    module.mkdir()
    (module / "go.mod").write_text("module m\n\ngo 1.26.6\n\nrequire x v1.0.0\n")
    for version, toolchain in (("go1.22.5", "auto"), ("go1.26.6", "local"), ("go1.27.0", "local")):
        folder = tmp_path / version
        folder.mkdir()
        install(folder, version)
        monkeypatch.setenv("PATH", str(folder))
        assert go.environment(module)["GOTOOLCHAIN"] == toolchain, version


def test_every_module_says_which_go_it_needs_and_the_hint_names_that_one() -> None:
    for file in tools_folder().glob("*/go.mod"):
        line = next(line for line in file.read_text().splitlines() if line.startswith("go "))
        version = go.parse_version(line)
        assert version is not None
        assert f"Go {version[0]}.{version[1]} " in go.INSTALL_HINT, file
