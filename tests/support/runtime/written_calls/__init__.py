"""Calls as models write them: for each format of tool calls what puts some into its text."""

from __future__ import annotations

from tests.support.runtime.written_calls.calls import Calls, as_json
from tests.support.runtime.written_calls.json_calls import kimi_k2
from tests.support.runtime.written_calls.writers import WRITERS

__all__ = ["WRITERS", "Calls", "as_json", "kimi_k2"]
