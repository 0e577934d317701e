"""Servers and engines whose steps fail, or do not end until a test has looked (`faults/sitecustomize.py`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.runtime.server_process import ServerProcess

_SITE = Path(__file__).with_name("faults")


class Faults:
    """What goes wrong in the processes that are started with `environment`."""

    def __init__(self, folder: Path, fault: str = "") -> None:
        self._file = folder / "fault"
        self.set(fault)
        inherited = os.environ.get("PYTHONPATH")
        self.environment = {
            "PYTHONPATH": os.pathsep.join([str(_SITE), *([inherited] if inherited else [])]),
            "FAULT_FILE": str(self._file),
        }

    def set(self, fault: str) -> None:
        self._file.write_text(fault)

    @contextmanager
    def slow_steps(self) -> Iterator[None]:
        """Until it ends a step takes a quarter of a second: hundreds of tokens outlast any test, and the
        engine still hears what it is told."""
        self.set("slow")
        try:
            yield
        finally:
            self.set("")


class FaultyServer(ServerProcess):
    """A server whose engine fails, or waits, as `faults` says; from its start on as `fault` does."""

    def __init__(self, folder: Path, *arguments: str, fault: str = "", **environment: str) -> None:
        self.faults = Faults(folder, fault)
        super().__init__(*arguments, **self.faults.environment, **environment)
