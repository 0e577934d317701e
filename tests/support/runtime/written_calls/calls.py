"""Calls that a model is to write, and what writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

Calls = Sequence[tuple[str, dict[str, Any]]]
"""Names of functions with their arguments."""
Writer = Callable[[Calls], str]


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
