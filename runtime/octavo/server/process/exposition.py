"""Exposition: the text that Prometheus scrapes, with what every server tells whoever answers its requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from octavo import __version__
from octavo.server.process.engine_metrics import EngineCollector, StartupCollector
from octavo.server.process.engine_view import EngineView
from octavo.server.process.lifecycle import Lifecycle

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_KEY_FAMILIES = frozenset({"octavo_key_requests", "octavo_key_tokens"})


class Exposition:
    """A registry with the engine's metrics, the start-up's and this process's.

    Args:
        model: The first served name: the label `model`.
        lifecycle: For the start-up's phases.
        read_engine: Gives the engine's latest view, or None before the engine runs.
    """

    def __init__(
        self, model: str, lifecycle: Lifecycle, read_engine: Callable[[], EngineView | None]
    ) -> None:
        # One more series for each of ours, and nobody reads them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        build = Gauge("octavo_build_info", "The version.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        ProcessCollector(registry=self.registry)
        self.registry.register(EngineCollector(model, read_engine))
        self.registry.register(StartupCollector(model, lifecycle))

    def exposition(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self.registry)

    def public_exposition(self) -> bytes:
        """The same without what strangers need not know: the names of keys."""
        return generate_latest(_Without(self.registry, _KEY_FAMILIES))


class _Without(Collector):
    """A registry without some of its families."""

    def __init__(self, registry: CollectorRegistry, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterator[Metric]:
        return (family for family in self._registry.collect() if family.name not in self._names)
