"""Progress: long steps tell what they do and how long it took: live on a terminal, plain lines elsewhere.

Everything goes to stderr, so that stdout holds nothing but the values that a caller asked for. rich
draws the live part where it is installed: the first look at a machine comes before any package is.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_open_steps: list[str] = []


@contextmanager
def step(title: str, *, is_live: bool = True) -> Iterator[None]:
    """Show `title` while the block runs, then the seconds that it took.

    `is_live=False` for a block whose programs print to the terminal themselves.
    """
    start = time.monotonic()
    _open_steps.append(title)
    try:
        with _live(f"{title} …", is_live=is_live):
            yield
    except BaseException:
        _end(title, start, "✗")
        raise
    _end(title, start, "✓")


def say(line: str) -> None:
    """One line for the reader."""
    _print(f"{'  ' * len(_open_steps)}{line}")


def complain(message: str) -> None:
    """An error, for the reader."""
    _print(f"Error: {message}", style="red")


def _live(line: str, *, is_live: bool) -> AbstractContextManager[object]:
    # rich shows one live status at a time; a step inside a step is printed as a line.
    console = _terminal()
    if console is not None and is_live and len(_open_steps) == 1:
        return console.status(line)
    _print(f"{'  ' * (len(_open_steps) - 1)}• {line}")
    return nullcontext()


def _end(title: str, start: float, mark: str) -> None:
    _open_steps.pop()
    seconds = time.monotonic() - start
    _print(f"{'  ' * len(_open_steps)}{mark} {title} ({seconds:.1f} s)", style=_STYLES[mark])


_STYLES = {"✓": "green", "✗": "red"}


def _print(line: str, *, style: str = "") -> None:
    """Print the line; its first word has the style on a terminal."""
    console = _terminal()
    if console is None:
        print(line, file=sys.stderr, flush=True)
        return
    from rich.text import Text

    text = Text(line)
    text.highlight_regex(r"^\s*\S+", style)
    console.print(text, soft_wrap=True)  # a long line stays one line


@functools.cache
def _terminal() -> Console | None:
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(stderr=True, highlight=False)
