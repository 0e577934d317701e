"""Temporary files of a whole test run: one folder for them, which is to be empty at its end.

What a killed process or a forgotten clean-up leaves in /tmp stays there, run after run, until the disk is
full. The folder also holds what the processes of tests make, servers and browsers: it is their `TMPDIR`.
"""

from __future__ import annotations

import os
import tempfile

import pytest

from octavo.owned_folder import OwnedFolder, remove_abandoned

# What a process of ours that is killed leaves goes with the next start, as it does here.
_OWNED = ("octavo-engine-", "octavo-kernels-", "octavo-metrics-")
# torch makes an empty folder for what it compiles, when parts of it are imported.
_OF_LIBRARIES = "torchinductor_"


class TemporaryFiles:
    """Plugin of the process that shares out the tests, or runs them alone. A run that leaves files fails."""

    def __init__(self) -> None:
        # Of tests that fail, pytest keeps folders where it always does.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        self._folder = OwnedFolder("octavo-tests-")
        os.environ["TMPDIR"] = str(self._folder.path)
        tempfile.tempdir = None
        self._left: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        for prefix in _OWNED:
            remove_abandoned(self._folder.path, prefix)
        names = (path.name for path in self._folder.path.iterdir())
        self._left = sorted(name for name in names if not name.startswith(_OF_LIBRARIES))
        if self._left and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._folder.remove()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._left:
            terminalreporter.section("left among the temporary files", red=True)
            terminalreporter.write_line("\n".join(self._left))
