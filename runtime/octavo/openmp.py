"""OpenMP's waiting: how long a thread of torch's spins before it sleeps.

By default a thread that waits for the others spins for milliseconds, which takes the core from the API
process, and from the very thread that is waited for: with two busy neighbours on two cores, a step of eight
rows of a 0.6B model took 700 ms, and 220 ms with some 50 µs of spinning.

GNU OpenMP has no call for it: it reads its environment once, when torch loads it. So whoever starts a process
gives it these variables, and who loads torch in its own process does so within `brief_spinning`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from octavo.environment import added_variables

_SPIN_COUNT = "GOMP_SPINCOUNT"
_WAIT_POLICY = "OMP_WAIT_POLICY"
_BRIEF = "4000"


def spin_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What a process's environment lacks to spin briefly; nothing where the user has said how to wait."""
    if {_SPIN_COUNT, _WAIT_POLICY} & environment.keys():
        return {}
    return {_SPIN_COUNT: _BRIEF}


@contextlib.contextmanager
def brief_spinning() -> Iterator[None]:
    """Torch that is first imported within it spins briefly. The environment is afterwards what it was."""
    with added_variables(spin_variables(os.environ)):
        yield
