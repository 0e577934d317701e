"""Log lines of several processes in one stream: each is whole, and says whose it is."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from octavo.logs import configure_logging


class Writes(io.StringIO):
    """What an unbuffered stream hands to the system, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def write(self, text: str) -> int:
        self.all.append(text)
        return len(text)


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**config)


@pytest.mark.usefixtures("untouched_logging")
@pytest.mark.parametrize("process", [None, "api-2"])
def test_a_line_is_one_write_and_names_its_process_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch, process: str | None
) -> None:
    stream = Writes()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("info", process)
    structlog.get_logger().info("request", seconds=1)
    logging.getLogger("library").warning("careful")
    ours, librarys = stream.all
    for line, event in ((ours, "request"), (librarys, "careful")):
        assert line.endswith("}\n")
        found = json.loads(line)
        assert found["event"] == event
        assert found.get("process") == process
        assert ("process" in found) == (process is not None)
