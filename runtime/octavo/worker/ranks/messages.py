"""Messages between the first rank's process and each other's: lines of JSON at the start, then step frames.

They go over the pipes of standard input and output, which no other process has: no port is open, and what
arrives is data alone.
"""

from __future__ import annotations

import msgspec

from octavo.config import EngineConfig


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """To a rank, first of all.

    Args:
        config: As the first rank runs it.
        meeting_file: Where the group of ranks meets.
        num_threads: Of torch, for each rank.
        num_blocks, max_model_len: Of the KV cache, which is laid out alike on all ranks.
    """

    config: EngineConfig
    rank: int
    meeting_file: str
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


Report = Arrived | Loaded | Failed
