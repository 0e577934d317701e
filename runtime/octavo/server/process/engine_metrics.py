"""Engine metrics: what the engine's latest `EngineStats` and the start-up tell, read when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from octavo.engine.messages import EngineStats
from octavo.server.process.engine_view import EngineView
from octavo.server.process.lifecycle import Lifecycle, Phase


class EngineCollector(Collector):
    """Of the latest view of the engine."""

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


class StartupCollector(Collector):
    """Of the start-up's phases."""

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
