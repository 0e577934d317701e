"""Commands of the first rank to the others, a kind with its payload: all ranks do the same at one time."""

from __future__ import annotations

import enum

from octavo.sleep_level import SleepLevel

_KIND_BYTES = 4  # what follows is read in place


class Kind(enum.IntEnum):
    """The payload of `STEP` is that of `pack_step`, that of `SLEEP` its level. `BEAT` comes while nothing
    else does: ranks wait for each other, and notice who is not there. `QUIT` ends whoever hears it: a rank
    on a GPU that hears nothing is so told from those that wait for it."""

    STEP = 1
    SLEEP = 2
    WAKE_UP = 3
    BEAT = 4
    QUIT = 5


def pack_command(kind: Kind, payload: bytes = b"") -> bytes:
    return kind.to_bytes(_KIND_BYTES, "little") + payload


def unpack_command(frame: bytes) -> tuple[Kind, bytes]:
    return Kind(int.from_bytes(frame[:_KIND_BYTES], "little")), frame[_KIND_BYTES:]


def pack_sleep(level: SleepLevel) -> bytes:
    return pack_command(Kind.SLEEP, bytes((level,)))


def unpack_sleep(payload: bytes) -> SleepLevel:
    return SleepLevel(payload[0])
