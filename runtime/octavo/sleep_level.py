"""Sleep levels of an engine: what of its memory a model that takes turns with others gives back."""

from __future__ import annotations

import enum

from octavo.errors import InvalidParameterError


class SleepLevel(enum.IntEnum):
    """vLLM's numbers.

    `KEEP_WEIGHTS`: the KV cache goes, and weights move to the host's memory, where a CPU has them anyway.
    `DROP_WEIGHTS`: weights go too, and are read anew from the checkpoint's files.
    """

    KEEP_WEIGHTS = 1
    DROP_WEIGHTS = 2


def read_sleep_level(value: object) -> SleepLevel:
    """Of an integer. Raises `InvalidParameterError`."""
    for level in SleepLevel:
        if isinstance(value, int) and not isinstance(value, bool) and value == level:
            return level
    raise InvalidParameterError(
        "level",
        f"level is {value!r}; use 1 (weights stay in the host's memory) or 2 (weights are read anew).",
    )


def read_sleep_level_of_query(text: str) -> SleepLevel:
    """Of its digit, as a URL has it. Raises as `read_sleep_level`."""
    return read_sleep_level({str(one.value): one.value for one in SleepLevel}.get(text, text))
