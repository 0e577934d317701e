"""Commands of the first rank to the others, a kind with its payload: all ranks do the same at one time."""

from __future__ import annotations

import enum
import os

from octavo.sleep_level import SleepLevel

_KIND_BYTES = 4  # what follows is read in place
_ADAPTER_BYTES = 8


class Kind(enum.IntEnum):
    """The payload of `STEP` is that of `pack_step`, that of `SLEEP` its level, that of `ADD_ADAPTER` and
    `REMOVE_ADAPTER` an adapter's id, and with the former its folder. `BEAT` comes while nothing
    else does: ranks wait for each other, and notice who is not there. `QUIT` ends whoever hears it: a rank
    on a GPU that hears nothing is so told from those that wait for it."""

    STEP = 1
    SLEEP = 2
    WAKE_UP = 3
    BEAT = 4
    QUIT = 5
    ADD_ADAPTER = 6
    REMOVE_ADAPTER = 7


def pack_command(kind: Kind, payload: bytes = b"") -> bytes:
    return kind.to_bytes(_KIND_BYTES, "little") + payload


def unpack_command(frame: bytes) -> tuple[Kind, bytes]:
    return Kind(int.from_bytes(frame[:_KIND_BYTES], "little")), frame[_KIND_BYTES:]


def pack_sleep(level: SleepLevel) -> bytes:
    return pack_command(Kind.SLEEP, bytes((level,)))


def unpack_sleep(payload: bytes) -> SleepLevel:
    return SleepLevel(payload[0])


def pack_adapter(kind: Kind, adapter_id: int, folder: str = "") -> bytes:
    return pack_command(kind, adapter_id.to_bytes(_ADAPTER_BYTES, "little") + os.fsencode(folder))


def unpack_adapter(payload: bytes) -> tuple[int, str]:
    return int.from_bytes(payload[:_ADAPTER_BYTES], "little"), os.fsdecode(payload[_ADAPTER_BYTES:])
