"""Go toolchain that builds our programs: which version is here, and what a build needs of it."""

from __future__ import annotations

import functools
import os
import re
import shutil
from pathlib import Path

from host.errors import ToolError
from host.process import run

OLDEST = (1, 21, 0)
"""The first Go that reads a `go` line of today and fetches the toolchain that the line asks for."""
INSTALL_HINT = (
    "Install Go 1.26 (or 1.21 and later, which fetches 1.26 itself) from https://go.dev/dl/."
)

Version = tuple[int, int, int]


def parse_version(output: str) -> Version | None:
    """The version in what `go version` prints or in a go.mod's `go` line; None where there is none."""
    found = re.search(r"\bgo ?(\d+)\.(\d+)(?:\.(\d+))?", output)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def installed(path: str | None = None) -> Version | None:
    """The version of the Go on PATH (or `path`); None where there is none that answers."""
    return _installed(path or os.environ.get("PATH", os.defpath))


def problem(version: Version | None) -> str:
    """Why this Go can't build our programs, in a few words; empty when it can."""
    if version is None:
        return "Go was not found on PATH"
    if version < OLDEST:
        shown = ".".join(map(str, version))
        oldest = ".".join(map(str, OLDEST[:2]))
        return f"the Go on PATH is {shown} and {oldest} is the oldest that can"
    return ""


def command(what_for: str) -> str:
    """The path of `go`; raises `ToolError` saying that it is needed for `what_for`."""
    wrong = problem(installed())
    found = shutil.which("go")
    if wrong or found is None:
        raise ToolError(f"{what_for} must be built with Go: {wrong}", hint=INSTALL_HINT)
    return found


def environment(module: Path) -> dict[str, str]:
    """What `go` runs with in the folder `module`.

    Distributions set GOTOOLCHAIN=local; a Go that is older than the module's `go` line then
    refuses to build, so it is told to fetch the toolchain that it lacks.
    """
    values = {**os.environ, "GOWORK": "off"}
    needed = parse_version(_go_line(module / "go.mod"))
    here = installed()
    if needed is not None and here is not None and here < needed:
        values["GOTOOLCHAIN"] = "auto"
    return values


def _go_line(file: Path) -> str:
    lines = file.read_text().splitlines()
    return next((line for line in lines if line.startswith("go ")), "")


@functools.cache
def _installed(path: str) -> Version | None:
    found = shutil.which("go", path=path)
    if found is None:
        return None
    try:
        # Its own version, not that of the toolchain which a go.mod here might make it fetch.
        answer = run(
            [found, "version"],
            env={**os.environ, "GOTOOLCHAIN": "local"},
            cwd=Path("/"),
            timeout_seconds=20,
        )
    except ToolError:
        return None
    return parse_version(answer)
