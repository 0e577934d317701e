"""Environment variables that stand for a while: what libraries read as they are first used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def added_variables(added: Mapping[str, str]) -> Iterator[None]:
    """Variables that the environment lacks; it is afterwards what it was."""
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
