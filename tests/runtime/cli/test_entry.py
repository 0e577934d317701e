"""Ctrl-C while the command is still being imported."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
_SCRIPT = tomllib.loads(_PYPROJECT.read_text())["project"]["scripts"]["octavo"]
_MODULE, _FUNCTION = _SCRIPT.split(":")
_FORMS = {
    "script": f"from {_MODULE} import {_FUNCTION}; {_FUNCTION}()",
    "module": "import runpy; runpy.run_module('octavo', run_name='__main__', alter_sys=True)",
}
_INTERRUPTED_AT = """
import signal, sys
interrupted = sys.argv.pop(1)
class Finder:
    def find_spec(self, name, *_):
        if name == interrupted:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("octavo.cli.main", ["serve", "builtin://demo"]),
        ("typer", ["top"]),
        ("octavo.cli.bench", ["bench", "serve"]),
        ("msgspec", ["fetch", "builtin://demo"]),
        ("octavo.server.process.run", ["serve", "builtin://demo"]),
        ("octavo.cli.inspected_folder", ["inspect", "builtin://demo"]),
        ("octavo.client", ["chat", "-m", "hi"]),
    ],
)
def test_an_interrupt_among_the_imports_ends_the_command_without_a_traceback(
    module: str, arguments: list[str], form: str
) -> None:
    code = _INTERRUPTED_AT + _FORMS[form]
    result = subprocess.run(
        [sys.executable, "-c", code, module, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
