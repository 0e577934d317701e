"""Runs a command line tool and, when it fails, says what was run and what it answered."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence


class CommandError(Exception):
    """A command that exited with another status than 0, or did not end in time."""

    def __init__(self, command: Sequence[str], answer: str) -> None:
        super().__init__(f"{readable(command)}\n{answer.strip()}")
        self.answer = answer


def readable(command: Sequence[str]) -> str:
    """The command as one would type it; long arguments (scripts, JSON) are cut."""
    return shlex.join([word if len(word) <= 200 else f"{word[:80]}…" for word in command])


def run(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    timeout_seconds: float = 120,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Runs to the end and returns what the command wrote to standard output.

    Raises:
        CommandError: with standard error (or output, when that is empty) as the answer.
    """
    try:
        done = subprocess.run(
            list(command),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            env={**os.environ, **(environment or {})},
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise CommandError(command, f"no end after {timeout_seconds:g} s") from late
    if done.returncode != 0:
        raise CommandError(command, done.stderr or done.stdout or f"status {done.returncode}")
    return done.stdout
