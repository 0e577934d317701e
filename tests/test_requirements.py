"""What CI says that it has is not skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.requirements import Requirement, declared, lacks

ROOT = Path(__file__).parents[1]
WITHOUT_TRITON = (
    "import sys, pytest; sys.modules['triton'] = None; sys.exit(pytest.main("
    "['-q', '--noconftest', '-p', 'no:cacheprovider', '-c', 'pyproject.toml', sys.argv[1]]))"
)
MODULE = """
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
import triton

def test() -> None: ...
"""


def run_without_triton(folder: Path, require: str) -> str:
    (folder / "test_module.py").write_text(MODULE)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRITON, str(folder / "test_module.py")],
        cwd=ROOT,
        env={**os.environ, "OCTAVO_REQUIRE": require},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_module_without_its_package_is_skipped_unless_the_machine_says_that_it_has_it(
    tmp_path: Path,
) -> None:
    assert "1 skipped" in run_without_triton(tmp_path, "helm")
    required = run_without_triton(tmp_path, "helm,triton")
    assert "1 error" in required
    assert "OCTAVO_REQUIRE names triton" in required


def test_a_fixture_that_lacks_something_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAVO_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no helm"):
        lacks(Requirement.HELM, "no helm")
    monkeypatch.setenv("OCTAVO_REQUIRE", "numba, helm")
    with pytest.raises(pytest.fail.Exception, match="no helm, and OCTAVO_REQUIRE names helm"):
        lacks(Requirement.HELM, "no helm")


def test_a_word_that_no_test_asks_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_REQUIRE", "tritom")
    with pytest.raises(pytest.UsageError, match=r"names tritom; tests ask for apiserver, .*helm"):
        declared()


def test_ci_says_what_it_has() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "OCTAVO_REQUIRE=numba,helm,apiserver,lupa,compressed_tensors\n" in script
    assert "OCTAVO_REQUIRE+=,triton\n" in script
    assert "run: .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
