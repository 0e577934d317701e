"""Drawn requests: what is asked for is cut to what a suite has the time for."""

from __future__ import annotations

from typing import Any


def shorten(body: Any) -> None:
    """An answer of a drawn length may be long; that it ends is tested elsewhere."""
    if isinstance(body, dict):
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
            if isinstance(body.get(name), int) and body[name] > 8:
                body[name] = 8
