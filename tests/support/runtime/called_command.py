"""`octavo …` called in the tests' process, which has imported what takes most of a process's time."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import CompletedProcess

import pytest
import structlog

from octavo.cli.main import run

Called = Callable[..., CompletedProcess[str]]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    """As a process that is given `text` as its standard input; whatever is raised is the test's."""

    def call(*arguments: str, text: str = "") -> CompletedProcess[str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        with _logs_of_its_own():
            status = run(list(arguments))
        said = capsys.readouterr()
        return CompletedProcess(arguments, status, said.out, said.err)

    return call


@contextmanager
def _logs_of_its_own() -> Iterator[None]:
    """Where a command sends its records ends with the test."""
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
        structlog.configure(**config)
