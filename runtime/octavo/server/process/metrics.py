"""Metrics. What Prometheus reads: `octavo_` prefix, base units, label `model` and reasons only.

Two sources meet here: what the API process sees of a request (latencies, refusals) and the engine's
latest `EngineStats` (queue, cache, token counters), which is read when Prometheus asks, not before.
"""

from __future__ import annotations

from collections.abc import Callable

from octavo.server.process.engine_view import EngineView
from octavo.server.process.exposition import Exposition
from octavo.server.process.lifecycle import Lifecycle
from octavo.server.process.request_metrics import RequestMetrics
from octavo.server.process.vllm_metrics import VllmNames


class ServerMetrics(Exposition, RequestMetrics):
    """All metrics of a server that is one process, in their own registry. Args: as `Exposition`.

    Args:
        has_vllm_names: Also tells them by vLLM's names.
    """

    def __init__(
        self,
        model: str,
        lifecycle: Lifecycle,
        read_engine: Callable[[], EngineView | None],
        *,
        has_vllm_names: bool = False,
    ) -> None:
        Exposition.__init__(self, model, lifecycle, read_engine)
        RequestMetrics.__init__(self, model, self.registry, has_vllm_names=has_vllm_names)
        if has_vllm_names:
            self.registry.register(VllmNames(model, read_engine, self.with_vllm_equals))
