"""Display. What the demo prints: headings, the commands as one would type them, tables as they change."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.lib.kubectl import Kubectl

_start = time.monotonic()


def heading(title: str) -> None:
    """A part of the story, with the seconds since the start."""
    print(f"\n\033[1m== {title}\033[0m  [{time.monotonic() - _start:.0f} s]", flush=True)


def typed(command: str) -> None:
    """A command that we run now and that the reader could have typed."""
    print(f"$ {command}", flush=True)


def say(text: str) -> None:
    print(text, flush=True)


def same_but_for_age(row: str) -> str:
    """A line of `kubectl get` without its last column, which changes with the clock."""
    return " ".join(row.split()[:-1])


@contextmanager
def watching(kubectl: Kubectl, *args: str) -> Iterator[None]:
    """Shows `kubectl get … --watch` while the block runs; rows that say nothing new are left out."""
    command = ("get", *args, "--watch")
    typed(kubectl.typed(*command))
    process = kubectl.popen(*command)

    def relay() -> None:
        last = ""
        for line in process.stdout or ():
            if same_but_for_age(line) != last:
                last = same_but_for_age(line)
                print(line, end="", flush=True)

    reader = threading.Thread(target=relay, daemon=True)
    reader.start()
    try:
        yield
        # The watch may be a moment behind what the block has seen already.
        reader.join(timeout=1)
    finally:
        process.terminate()
        process.wait(timeout=10)
        reader.join(timeout=5)
