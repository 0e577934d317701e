"""Headless run: a node that has ranks of a model and serves nobody, from its start to its end."""

from __future__ import annotations

import os
import signal
import threading

import msgspec
import structlog

from octavo.model_source import resolve
from octavo.server.process.options import ServeOptions
from octavo.torch_logs import log_variables

log = structlog.get_logger("octavo.server")


def run_headless(options: ServeOptions) -> None:
    """Returns when the group was ended on purpose. A SIGTERM leaves the first node as long as it has for its
    own drain: it ends the group.

    Raises `OctavoError`.
    """
    config = options.engine_on_node
    folder = resolve(options.model, download_dir=options.download_dir, revision=options.revision)
    os.environ.update(log_variables(os.environ))
    from octavo.worker.ranks.node import run_node  # torch

    must_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: must_end.set())
    config = msgspec.structs.replace(config, model=str(folder))
    assert config.place is not None  # noqa: S101 - only such nodes are headless
    log.info("headless", node=config.place.node_rank, ranks=list(config.local_ranks))
    run_node(
        config,
        config.place,
        must_end,
        options.drain_grace_seconds + options.drain_timeout_seconds,
    )
