"""Rank process: `python -m octavo.worker.ranks.process`, one for each rank but the first, which spawns them.

Standard input brings an `Assignment` as one line of JSON and then commands, each behind its length; ranks of
several nodes get those by the group's broadcast. Its end means that the process which spawned this one is
gone, and this one ends too. Reports go to standard output as lines of
JSON. The rank serves nobody: what it computes goes to the first by the group's gather.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import structlog

from octavo.errors import OctavoError
from octavo.logs import configure_logging
from octavo.parents_end import go_on_at_parents_end
from octavo.worker.ranks.messages import (
    LOAD_SECONDS,
    Arrived,
    Assignment,
    Failed,
    Loaded,
    MeetingPoint,
    Report,
)

if TYPE_CHECKING:
    from octavo.worker.ranks.following import Follower
    from octavo.worker.ranks.frames import NextFrame
    from octavo.worker.ranks.group import GroupRanks

_log = structlog.get_logger("octavo.rank")
_STDOUT, _STDERR = 1, 2
_EXIT_FAILED = 1


def main() -> int:
    """Returns the exit status. SIGINT and SIGTERM are ignored, as by the engine: the first rank says when."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    go_on_at_parents_end()
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
    from octavo.worker.ranks.frames import (
        broadcast_frames,
        end_with_parent,
        frames_beside,
        piped_frames,
    )
    from octavo.worker.ranks.group import RankLostError
    from octavo.worker.ranks.start import load_rank

    end_with_parent(commands)

    def leave(error: Exception) -> None:
        os._exit(_fail(error, reports))

    def quit_now() -> None:
        leave(RankLostError("told to quit"))

    _send(reports, Arrived())
    line = commands.readline()
    if not line:
        return
    assignment = msgspec.json.decode(line, type=Assignment)
    configure_logging("info", f"rank-{assignment.rank}")
    rank = load_rank(assignment, leave)
    is_spread = isinstance(assignment.meeting, MeetingPoint)
    if is_spread:
        frames = broadcast_frames(commands, rank.control, quit_now)
    elif rank.is_on_gpu:
        frames = frames_beside(commands, quit_now)
    else:
        frames = piped_frames(commands)
    _send(reports, Loaded(_peak_memory_bytes()))
    if is_spread:
        rank.control.meet(LOAD_SECONDS)
    follower = rank.prepare(frames)
    gc.collect()
    gc.freeze()

    def tell_awake() -> None:
        if is_spread:
            rank.control.meet(LOAD_SECONDS)
        else:
            _send(reports, Loaded(_peak_memory_bytes()))

    _follow(
        follower, frames, rank.control, assignment.config.distributed_timeout_seconds, tell_awake
    )


def _follow(
    follower: Follower,
    frames: NextFrame,
    control: GroupRanks,
    timeout_seconds: float,
    tell_awake: Callable[[], None],
) -> None:
    """Does as it is told until the first rank has gone."""
    from octavo.worker.ranks.commands import Kind, unpack_adapter, unpack_command, unpack_sleep

    while (frame := frames(timeout_seconds)) is not None:
        kind, payload = unpack_command(frame)
        match kind:
            case Kind.STEP:
                follower.step(payload)
            case Kind.BEAT:
                control.meet(timeout_seconds)
            case Kind.SLEEP:
                follower.sleep(unpack_sleep(payload))
            case Kind.WAKE_UP:
                follower.wake_up()
                tell_awake()
            case Kind.ADD_ADAPTER:
                has_it = follower.add_adapter(*unpack_adapter(payload))
                control.least(int(has_it), LOAD_SECONDS)
            case Kind.REMOVE_ADAPTER:
                adapter_id, _ = unpack_adapter(payload)
                follower.remove_adapter(adapter_id)
            case Kind.QUIT:
                return  # who reads its commands alone is not asked


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
