"""Metrics. What Prometheus reads: `octavo_` prefix, base units, label `model` and reasons only.

Two sources meet here: what the API process sees of a request (latencies, refusals) and the engine's
latest `EngineStats` (queue, cache, token counters), which is read when Prometheus asks, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from octavo import __version__
from octavo.engine.messages import EngineStats
from octavo.server.process.engine_view import EngineView
from octavo.server.process.latency_histogram import LatencyHistogram
from octavo.server.process.lifecycle import Lifecycle, Phase
from octavo.server.process.timeline import Timeline
from octavo.server.process.vllm_metrics import VllmNames, VllmSequences

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_KEY_FAMILIES = frozenset({"octavo_key_requests", "octavo_key_tokens"})
_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_TOKEN_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.025,
    0.05,
    0.075,
    0.1,
    0.2,
    0.5,
    1,
    5,
)


class ServerMetrics:
    """All metrics of one server, in their own registry.

    Args:
        model: The first served name: the label `model`.
        lifecycle: For the start-up's phases.
        read_engine: Gives the engine's latest view, or None before the engine runs.
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
        # One more series for each of ours, and nobody reads them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        labels = ["model"]

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

        first_token = histogram(
            "octavo_time_to_first_token_seconds",
            "From a request's arrival to its first token.",
            _LATENCY_BUCKETS,
        )
        between_tokens = LatencyHistogram(
            "octavo_inter_token_latency_seconds",
            "Between two tokens of one sequence.",
            model,
            _TOKEN_BUCKETS,
        )
        self._registry.register(between_tokens)
        duration = histogram(
            "octavo_request_duration_seconds",
            "From a request's arrival to its last token.",
            _LATENCY_BUCKETS,
        )
        queue_time = histogram(
            "octavo_queue_time_seconds",
            "From a request's arrival to its first step.",
            _LATENCY_BUCKETS,
        )
        self.time_to_first_token = first_token.labels(model)
        self.inter_token_latency = between_tokens
        self.request_duration = duration.labels(model)
        self.queue_time = queue_time.labels(model)
        self._requests = Counter(
            "octavo_requests",
            "Sequences that ended, by the reason.",
            ["model", "finish_reason"],
            registry=self._registry,
        )
        self._rejected = Counter(
            "octavo_requests_rejected",
            "Requests that were answered with an error, by its code.",
            ["model", "reason"],
            registry=self._registry,
        )
        self._key_requests = Counter(
            "octavo_key_requests",
            "Requests of an API key, by the key's name.",
            ["model", "key"],
            registry=self._registry,
        )
        self._key_tokens = Counter(
            "octavo_key_tokens",
            "Tokens of prompts and answers of an API key, by the key's name.",
            ["model", "key"],
            registry=self._registry,
        )
        for reason in ("stop", "length", "abort", "error"):
            self._requests.labels(model, reason)
        self._rejected.labels(model, "queue_full")
        Gauge("octavo_build_info", "The version.", ["version"], registry=self._registry).labels(
            __version__
        ).set(1)
        ProcessCollector(registry=self._registry)
        self._registry.register(_EngineCollector(model, read_engine))
        self._registry.register(_StartupCollector(model, lifecycle))
        self._model = model
        self._vllm_sequences: VllmSequences | None = None
        if has_vllm_names:
            same = (first_token, between_tokens, duration, queue_time, self._requests)
            self._registry.register(VllmNames(model, read_engine, same))
            self._vllm_sequences = VllmSequences(model, self._registry)

    def count_finished(self, finish_reason: str) -> None:
        self._requests.labels(self._model, finish_reason).inc()

    def count_rejected(self, reason: str) -> None:
        """`reason` must be one of our constants, never a client's text."""
        self._rejected.labels(self._model, reason).inc()

    def count_key(self, name: str, num_tokens: int) -> None:
        """A request of an API key has ended; `name` is the key's, never the key."""
        self._key_requests.labels(self._model, name).inc()
        self._key_tokens.labels(self._model, name).inc(num_tokens)

    def observe_sequence(self, timeline: Timeline) -> None:
        """A sequence has made its last token."""
        if self._vllm_sequences is not None:
            self._vllm_sequences.observe(timeline)

    def exposition(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self._registry)

    def public_exposition(self) -> bytes:
        """The same without what strangers need not know: the names of keys."""
        return generate_latest(_Without(self._registry, _KEY_FAMILIES))


class _Without(Collector):
    """A registry without some of its families."""

    def __init__(self, registry: CollectorRegistry, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterator[Metric]:
        return (family for family in self._registry.collect() if family.name not in self._names)


class _EngineCollector(Collector):
    def __init__(self, model: str, read_engine: Callable[[], EngineView | None]) -> None:
        self._model = model
        self._read_engine = read_engine

    def collect(self) -> Iterator[Metric]:
        view = self._read_engine() or EngineView.of_nothing()
        stats = view.stats
        gauges = (
            (
                "octavo_requests_waiting",
                "Sequences that wait for their first step.",
                view.num_waiting,
            ),
            ("octavo_requests_running", "Sequences that make tokens.", stats.num_running),
            (
                "octavo_kv_cache_usage_ratio",
                "Share of the KV cache's blocks in use.",
                view.kv_cache_usage,
            ),
            ("octavo_kv_cache_blocks", "Blocks of the KV cache.", stats.kv_blocks_total),
            ("octavo_kv_cache_blocks_used", "Blocks in use.", stats.kv_blocks_used),
            ("octavo_kv_cache_tokens", "Tokens held in the KV cache.", stats.kv_tokens_held),
            (
                "octavo_sleep_level",
                "0 while the model is awake, 1 or 2 while it sleeps.",
                stats.sleep_level,
            ),
        )
        for name, text, number in gauges:
            gauge = GaugeMetricFamily(name, text, labels=["model"])
            gauge.add_metric([self._model], number)
            yield gauge
        counters = (
            ("octavo_engine_steps", "Steps of the engine.", stats.step),
            (
                "octavo_prompt_tokens",
                "Prompt tokens of what was started.",
                stats.prompt_tokens_total,
            ),
            ("octavo_generation_tokens", "Tokens made.", stats.generation_tokens_total),
            (
                "octavo_prefix_cache_hit_tokens",
                "Prompt tokens found in the prefix cache.",
                stats.prefix_cache_hit_tokens_total,
            ),
            (
                "octavo_prefix_cache_query_tokens",
                "Prompt tokens that the prefix cache was asked for.",
                stats.prefix_cache_query_tokens_total,
            ),
            (
                "octavo_preemptions",
                "Sequences that lost their blocks and were recomputed.",
                stats.preemptions_total,
            ),
        )
        for name, text, number in counters:
            counter = CounterMetricFamily(name, text, labels=["model"])
            counter.add_metric([self._model], number)
            yield counter
        yield from self._speculation(stats)

    def _speculation(self, stats: EngineStats) -> Iterator[Metric]:
        accepted = stats.spec_decode_accepted_tokens_per_position
        for name, text, number in (
            (
                "octavo_spec_decode_drafts",
                "Steps of a sequence that had draft tokens.",
                stats.spec_decode_drafts_total,
            ),
            (
                "octavo_spec_decode_draft_tokens",
                "Draft tokens that ran.",
                stats.spec_decode_draft_tokens_total,
            ),
            (
                "octavo_spec_decode_accepted_tokens",
                "Draft tokens that came true.",
                sum(accepted),
            ),
        ):
            counter = CounterMetricFamily(name, text, labels=["model"])
            counter.add_metric([self._model], number)
            yield counter
        positions = CounterMetricFamily(
            "octavo_spec_decode_accepted_tokens_per_position",
            "Draft tokens that came true, by their place behind the known token.",
            labels=["model", "position"],
        )
        for position, number in enumerate(accepted or (0,)):
            positions.add_metric([self._model, str(position)], number)
        yield positions


class _StartupCollector(Collector):
    def __init__(self, model: str, lifecycle: Lifecycle) -> None:
        self._model = model
        self._lifecycle = lifecycle

    def collect(self) -> Iterator[Metric]:
        phases = GaugeMetricFamily(
            "octavo_startup_phase_seconds",
            "How long each phase of the start-up took.",
            labels=["model", "phase"],
        )
        for phase in self._lifecycle.phases:
            if phase.is_done:
                phases.add_metric([self._model, phase.name], phase.seconds)
        yield phases
        yield self._of_bytes(
            "octavo_startup_bytes",
            "Bytes of the download, or of the weights, that a phase of the start-up has done.",
            lambda phase: phase.bytes_done,
        )
        yield self._of_bytes(
            "octavo_startup_expected_bytes",
            "Bytes that a phase of the start-up has to do in all.",
            lambda phase: phase.bytes_total,
        )

    def _of_bytes(self, name: str, text: str, count: Callable[[Phase], int]) -> Metric:
        """Of phases that have any."""
        family = GaugeMetricFamily(name, text, labels=["model", "phase"])
        for phase in self._lifecycle.phases:
            if phase.bytes_total:
                family.add_metric([self._model, phase.name], count(phase))
        return family
