"""Shared state of a server's API processes: what must be one however many of them answer.

The only process has it itself; one of several is told, or asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from octavo.server.http.key_use import KeyAccounts
from octavo.server.openai.adapters import AdapterTable
from octavo.server.openai.gate import Gate
from octavo.server.process.api_keys import ApiKeys
from octavo.server.process.engine_view import EngineView
from octavo.server.process.lifecycle import Lifecycle
from octavo.server.process.request_metrics import RequestMetrics


@dataclass(frozen=True, slots=True)
class SharedState:
    """
    Args:
        read_view, read_metrics: The engine as gauges see it, and all metrics as strangers may see them.
    """

    lifecycle: Lifecycle
    keys: ApiKeys
    accounts: KeyAccounts
    gate: Gate
    adapters: AdapterTable
    metrics: RequestMetrics
    read_view: Callable[[], Awaitable[EngineView]]
    read_metrics: Callable[[], Awaitable[bytes]]
