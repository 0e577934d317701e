"""Console that benchmarks print to."""

from __future__ import annotations

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = (
    150  # a file or a pipe has no width, and tables cut to 80 columns say little
)


def make_console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)
