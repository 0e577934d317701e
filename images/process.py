"""Runs the tools that the builder needs, and tells how long each step took.

Progress goes to stderr: stdout belongs to the references that the builder prints at its end.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from images.errors import BuildError


def say(text: str) -> None:
    """Prints one line of progress."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announces a step and, when it ends well, the seconds that it took."""
    say(f"== {title}")
    started = time.monotonic()
    yield
    say(f"   {title}: {time.monotonic() - started:.1f} s")


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
    """Runs a command with its output on stderr; raises BuildError when it fails."""
    code = subprocess.run(command, stdout=sys.stderr, env=env, check=False).returncode
    if code != 0:
        raise BuildError(f"`{_name(command)}` exited with {code}; its output is above")


def output(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> str:
    """Returns a command's stdout; raises BuildError with its stderr when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        raise BuildError(f"`{_name(command)}` exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def succeeds(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
) -> bool:
    """Tells whether a command exits with 0; one that isn't there or takes too long does not."""
    try:
        done = subprocess.run(
            command, capture_output=True, env=env, check=False, timeout=timeout_seconds
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _name(command: Sequence[str]) -> str:
    shown = " ".join(command)
    return shown if len(shown) <= 160 else shown[:157] + "..."
