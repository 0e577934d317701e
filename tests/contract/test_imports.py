"""Importing a module of ours does nothing to the process: a variable is set by who starts one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Imports what the argument names and all below it, and prints how the environment changed.
_PROGRAM = """
import importlib, json, os, pkgutil, sys

package = importlib.import_module(sys.argv[1])
before = dict(os.environ)
found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
names = [each.name for each in found if not each.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
after = dict(os.environ)
changed = {key for key in {**before, **after} if before.get(key) != after.get(key)}
print(json.dumps([len(names), sorted(changed)]))
"""


@pytest.mark.parametrize(("package", "at_least"), [("octavo", 150), ("octavo_operator", 40)])
def test_an_import_changes_no_environment_variable(package: str, at_least: int) -> None:
    unset = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "NUMBA_CACHE_DIR", "NUMBA_CPU_NAME")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, package],
        env={key: value for key, value in os.environ.items() if key not in unset},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    num_modules, changed = json.loads(done.stdout.splitlines()[-1])
    assert num_modules >= at_least
    assert changed == []
