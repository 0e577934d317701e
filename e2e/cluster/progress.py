"""Long steps tell what they do and how long it took: live on a terminal, plain lines elsewhere.

Everything goes to stderr, so that stdout holds nothing but the values that a caller asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False)

_open_steps: list[str] = []


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show `title` while the block runs, then the seconds that it took."""
    start = time.monotonic()
    _open_steps.append(title)
    try:
        # rich shows one live status at a time; a step inside a step is printed as a line.
        if console.is_terminal and len(_open_steps) == 1:
            with console.status(f"{title} …"):
                yield
        else:
            _print(f"{'  ' * (len(_open_steps) - 1)}• {title} …")
            yield
    except BaseException:
        _end(title, start, "[red]✗[/red]")
        raise
    _end(title, start, "[green]✓[/green]")


def say(line: str) -> None:
    """One line for the reader."""
    _print(f"{'  ' * len(_open_steps)}{line}")


def _end(title: str, start: float, mark: str) -> None:
    _open_steps.pop()
    seconds = time.monotonic() - start
    _print(f"{'  ' * len(_open_steps)}{mark} {title} ({seconds:.1f} s)")


def _print(line: str) -> None:
    console.print(line, soft_wrap=True)  # a log keeps its lines whole
