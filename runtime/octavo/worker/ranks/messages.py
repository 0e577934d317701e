"""Messages between the first rank's process and each other's: lines of JSON at the start, then step frames.

They go over the pipes of standard input and output, which no other process has: no port is open, and what
arrives is data alone.
"""

from __future__ import annotations

import msgspec

from octavo.config import EngineConfig
from octavo.errors import OctavoError

LOAD_SECONDS = 600.0
"""All ranks read weights at once: who is that much later hangs."""


class MeetingFile(msgspec.Struct, frozen=True, tag="file"):
    """Where ranks of one node meet: a file of their group alone, which may have no name."""

    path: str


class MeetingPoint(msgspec.Struct, frozen=True, tag="point"):
    """Where ranks of several nodes meet: the store of the first node.

    Args:
        own_address: Of the rank's node, which it listens on.
    """

    address: str
    port: int
    own_address: str


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """To a rank, first of all.

    Args:
        config: As the first rank runs it.
        meeting: Where the group of ranks meets.
        num_threads: Of torch, for each rank.
        num_blocks, max_model_len: Of the KV cache, which is laid out alike on all ranks; 0 on GPUs, whose
            ranks find it out together.
    """

    config: EngineConfig
    rank: int
    meeting: MeetingFile | MeetingPoint
    num_threads: int
    num_blocks: int
    max_model_len: int


class Arrived(msgspec.Struct, frozen=True, tag="arrived"):
    """From a rank: its libraries are loaded."""


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """From a rank: it has its part of the weights and follows steps.

    Args:
        peak_memory_bytes: Of its process so far, mapped files included.
    """

    peak_memory_bytes: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """From a rank that ends.

    Args:
        reason: Of the error's class.
        is_lost: Only because another rank is gone or does not come.
    """

    reason: str
    message: str
    is_lost: bool


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """Of a rank of another node that has ended, by its node.

    Args:
        message: Why; None: another rank was lost to it.
    """

    message: str | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Of the first node, when the group ends.

    Args:
        failure: What ended it; None: it was told to.
        reason: Of the error that it is.
    """

    failure: str | None
    reason: str = OctavoError.reason


Report = Arrived | Loaded | Failed
