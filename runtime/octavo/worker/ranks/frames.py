"""Frames: how commands come to a rank's process, over its standard input or by the group's broadcast."""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable
from typing import BinaryIO

from octavo.worker.ranks.commands import Kind, unpack_command
from octavo.worker.ranks.group import GroupRanks

NextFrame = Callable[[float], bytes | None]
"""The next command, for which a rank waits so many seconds where others may be gone without a word; None:
the process that sends them has gone."""

LENGTH_BYTES = 8
"""Of the length before a frame, little-endian."""
_EXIT_FAILED = 1


def end_with_parent(commands: BinaryIO) -> None:
    """From now on this process ends as soon as nobody can write commands any more, whatever it waits for:
    also while the group forms, when it reads none."""
    _in_background(_exit_at_hang_up, commands.fileno())


def piped_frames(commands: BinaryIO) -> NextFrame:
    """Of standard input."""
    return lambda _: _read_frame(commands)


def frames_beside(commands: BinaryIO, quit_now: Callable[[], None]) -> NextFrame:
    """As `piped_frames`, to a rank that may wait on a GPU for ever: the process ends with its parent all the
    same, and by `quit_now` when it is told to."""
    frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    _in_background(_pass_on, commands, frames, quit_now)
    return lambda _: frames.get()


def broadcast_frames(
    commands: BinaryIO, control: GroupRanks, quit_now: Callable[[], None]
) -> NextFrame:
    """Of the group, to ranks of several nodes; standard input says when the parent has gone, and nothing else
    but `Kind.QUIT`."""
    _in_background(_exit_with_parent, commands, quit_now)
    return lambda seconds: control.broadcast(None, seconds)


def _in_background(act: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=act, args=arguments, name="frames", daemon=True).start()


def _exit_at_hang_up(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # the end alone, not what there is to read
    poll.poll()
    os._exit(_EXIT_FAILED)


def _read_frame(commands: BinaryIO) -> bytes | None:
    length = commands.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    count = int.from_bytes(length, "little")
    frame = commands.read(count)
    return frame if len(frame) == count else None


def _pass_on(
    commands: BinaryIO, frames: queue.SimpleQueue[bytes], quit_now: Callable[[], None]
) -> None:
    while (frame := _read_frame(commands)) is not None:
        if unpack_command(frame)[0] is Kind.QUIT:
            quit_now()
        frames.put(frame)
    os._exit(_EXIT_FAILED)


def _exit_with_parent(commands: BinaryIO, quit_now: Callable[[], None]) -> None:
    if commands.read(1):
        quit_now()
    os._exit(_EXIT_FAILED)
