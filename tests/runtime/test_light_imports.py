"""Imports without torch: what decides how torch starts comes before it, and API processes never need it.

Torch costs a process some 300 MiB and two seconds. GNU OpenMP reads its environment when torch loads it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

# Prints the files through which torch would be imported, the outermost first.
_TELL = """
import sys, traceback
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "torch":
            sys.exit("\\n".join(f"{f.filename}:{f.lineno}" for f in traceback.extract_stack()))
sys.meta_path.insert(0, Finder())
for module in sys.argv[1:]:
    __import__(module)
"""


def _imported(*modules: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _TELL, *modules], capture_output=True, text=True, check=False
    )
    return "\n".join(line for line in done.stderr.splitlines() if "frozen" not in line)


@pytest.mark.parametrize(
    "module",
    ["octavo.llm", "octavo.server.process.run", "octavo.server.process.api_servers.process"],
)
def test_torch_is_not_imported_by(module: str) -> None:
    assert _imported(module) == ""


def test_a_module_that_imports_torch_is_seen_with_its_way_to_it() -> None:
    assert "octavo/sampling/processors/base.py" in _imported("octavo.engine.core")
