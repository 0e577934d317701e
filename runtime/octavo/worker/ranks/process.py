"""Rank process: `python -m octavo.worker.ranks.process`, one for each rank but the first, which spawns them.

Standard input brings an `Assignment` as one line of JSON and then commands, each behind its length; ranks of
several nodes get those by the group's broadcast. Its end means that the process which spawned this one is
gone, and this one ends too. Reports go to standard output as lines of
JSON. The rank serves nobody: what it computes goes to the first by the group's gather.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO

import msgspec
import structlog

from octavo.errors import OctavoError
from octavo.logs import configure_logging
from octavo.worker.ranks.messages import (
    LOAD_SECONDS,
    Arrived,
    Assignment,
    Failed,
    Loaded,
    MeetingPoint,
    Report,
)

_log = structlog.get_logger("octavo.rank")
_STDOUT, _STDERR = 1, 2
_EXIT_FAILED = 1

LENGTH_BYTES = 8
"""Of the length before a frame, little-endian."""


def main() -> int:
    """Returns the exit status. SIGINT and SIGTERM are ignored, as by the engine: the first rank says when."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Reports have the pipe for themselves; what a library prints goes to the log.
    reports = os.fdopen(os.dup(_STDOUT), "wb", buffering=0)
    os.dup2(_STDERR, _STDOUT)
    configure_logging("info")
    try:
        _serve(sys.stdin.buffer, reports)
    except BrokenPipeError:
        return _EXIT_FAILED  # the first rank is gone, and nobody reads
    except Exception as error:
        return _fail(error, reports)
    return 0


def _serve(commands: BinaryIO, reports: BinaryIO) -> None:
    """Returns when the first rank has gone."""
    import torch

    from octavo.worker.ranks.commands import Kind, unpack_command, unpack_sleep
    from octavo.worker.ranks.start import load_rank
    from octavo.worker.ranks.step_frames import unpack_step

    _send(reports, Arrived())
    line = commands.readline()
    if not line:
        return
    assignment = msgspec.json.decode(line, type=Assignment)
    loaded, ranks = load_rank(assignment)
    _send(reports, Loaded(_peak_memory_bytes()))
    gc.collect()
    gc.freeze()
    timeout_seconds = assignment.config.distributed_timeout_seconds
    if isinstance(assignment.meeting, MeetingPoint):
        threading.Thread(target=_exit_with_parent, args=(commands,), daemon=True).start()
        ranks.meet(LOAD_SECONDS)
        next_frame: Callable[[], bytes | None] = lambda: ranks.broadcast(None, timeout_seconds)  # noqa: E731
    else:
        next_frame = functools.partial(_read_frame, commands)
    while (frame := next_frame()) is not None:
        kind, payload = unpack_command(frame)
        match kind:
            case Kind.SLEEP:
                loaded.sleep(unpack_sleep(payload))
            case Kind.WAKE_UP:
                loaded.wake_up()
                if isinstance(assignment.meeting, MeetingPoint):
                    ranks.meet(LOAD_SECONDS)
                else:
                    _send(reports, Loaded(_peak_memory_bytes()))
            case Kind.BEAT:
                ranks.meet(timeout_seconds)
            case Kind.STEP:
                entries, copies = unpack_step(payload)
                runner = loaded.runner
                with torch.inference_mode():
                    runner.copy_blocks(copies)
                    result = runner.run(entries)
                    if result.scored is not None:
                        for _ in runner.score(result.scored):
                            pass  # the first rank has what was gathered


def _read_frame(commands: BinaryIO) -> bytes | None:
    length = commands.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    count = int.from_bytes(length, "little")
    frame = commands.read(count)
    return frame if len(frame) == count else None


def _exit_with_parent(commands: BinaryIO) -> None:
    while commands.read(1):
        pass
    os._exit(_EXIT_FAILED)


def _fail(error: Exception, reports: BinaryIO) -> int:
    from octavo.worker.ranks.group import RankLostError

    is_lost = isinstance(error, RankLostError)
    if is_lost:
        _log.error("rank ends", error=str(error))
    else:
        _log.exception("rank failed")
    words = Failed(OctavoError.reason, f"{type(error).__name__}: {error}", is_lost)
    if isinstance(error, OctavoError):
        words = Failed(error.reason, str(error), is_lost)
    with contextlib.suppress(BrokenPipeError):
        _send(reports, words)
    return _EXIT_FAILED


def _send(reports: BinaryIO, report: Report) -> None:
    reports.write(msgspec.json.encode(report) + b"\n")


def _peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    # Not by way of the interpreter's end, which may hang in a library that waits for another rank.
    status = main()
    sys.stderr.flush()
    os._exit(status)
