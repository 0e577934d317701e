"""Structured logs: one line per fact, with the object's key; the standard library's go the same way."""

from __future__ import annotations

import logging
import sys

import structlog

from octavo_operator.settings import LogLevel


def configure(level: LogLevel, log_format: str) -> None:
    """For the whole process. kopf logs every event at INFO; only what it warns of is kept."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.value)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.value)
    for noisy in ("kopf", "aiohttp", "kubernetes", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    # It warns at every start that its thread gets no signals, which is what we want; and both tell what ends
    # it, at length, which we do in one line.
    for told in ("running", "orchestration"):
        logging.getLogger(f"kopf._core.reactor.{told}").setLevel(logging.CRITICAL)
