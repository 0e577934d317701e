"""Torch's own log: lines of its C++ libraries on standard error, which are no JSON.

Its group's store prints a stack trace for every connection that is refused or that speaks something else, at
the level of warnings and errors; what fails is raised as well, and told by whoever catches it. Torch reads
its level from the environment once, when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

_LEVEL = "TORCH_CPP_LOG_LEVEL"
_ONLY_ITS_LAST_WORDS = "FATAL"


def log_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What a process's environment lacks for a quiet torch; nothing where the user has chosen a level."""
    return {} if _LEVEL in environment else {_LEVEL: _ONLY_ITS_LAST_WORDS}
