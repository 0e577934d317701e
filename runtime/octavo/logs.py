"""Logs. One line per fact: JSON where a machine reads, colours where a person does. Never a prompt, never a
key."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger


def configure_logging(level: str, process: str | None = None) -> None:
    """Sends structlog's and the libraries' records to stderr, in one format.

    Args:
        process: Where several of a kind write into one stream, the name of this one, which each line has.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if process is not None:
        shared.append(_Naming(process))
    # Tracebacks without local variables: those hold prompts and keys.
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        # One write a line: other processes write into the same stream.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(threshold, logging.WARNING))


@dataclass(frozen=True, slots=True)
class _Naming:
    """Adds the process to each line."""

    process: str

    def __call__(self, _logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        line["process"] = self.process
        return line
