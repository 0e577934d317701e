"""Flags that take a path: an empty one is no path, and not the folder that the process happens to run in."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.cli.main import run
from tests.support.runtime.command_line import COMMANDS

PATHS = [
    (name, option.opts[0])
    for name, command in COMMANDS.commands.items()
    for option in command.params
    if option.param_type_name == "option" and "Path" in str(option.type_descriptor.annotation)
]


def test_flags_that_take_paths_are_known_as_such() -> None:
    assert {("fetch", "--to"), ("inspect", "--download-dir"), ("serve", "--download-dir")} < set(
        PATHS
    )


@pytest.mark.parametrize(("command", "flag"), PATHS)
def test_an_empty_path_is_refused(
    command: str,
    flag: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OCTAVO_TERMINATION_LOG", str(tmp_path / "log"))
    assert run([command, "builtin://demo", flag, ""]) != 0
    told = capsys.readouterr().err
    assert f"'{flag}': it is empty. Give a path, or leave it out." in told
