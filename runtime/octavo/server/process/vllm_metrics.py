"""vLLM's metrics: its names and labels for what Octavo measures, with `--metrics-names vllm`.

Dashboards, KEDA triggers, the Gateway API Inference Extension's endpoint picker and llm-d's router that were
written for vLLM read Octavo unchanged. Each name keeps vLLM's type, and its labels `model_name` and `engine`;
buckets of what Octavo measures anyway are Octavo's. What has no equal here (`vllm:iteration_tokens_total`,
residency of blocks) is absent rather than guessed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from octavo.engine.messages import EngineStats
from octavo.server.process.engine_view import AdapterNames, EngineView
from octavo.server.process.timeline import Timeline
from octavo.sleep_level import SleepLevel

_LABELS = ["model_name", "engine"]
_ENGINE = "0"
"""The only one: a server has one engine."""

RENAMED = {
    "octavo_time_to_first_token_seconds": "vllm:time_to_first_token_seconds",
    "octavo_inter_token_latency_seconds": "vllm:inter_token_latency_seconds",
    "octavo_request_duration_seconds": "vllm:e2e_request_latency_seconds",
    "octavo_queue_time_seconds": "vllm:request_queue_time_seconds",
    "octavo_requests": "vllm:request_success",
}
_RENAMED_LABELS = {"model": "model_name", "finish_reason": "finished_reason"}

_SLEEP_STATES = {
    0: "awake",
    SleepLevel.KEEP_WEIGHTS: "weights_offloaded",
    SleepLevel.DROP_WEIGHTS: "discard_all",
}

_SECONDS = (
    *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920),
    7680,
)
_TOKEN_SECONDS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40),
    80,
)
_TOKENS = tuple(step * 10**power for power in range(7) for step in (1, 2, 5))
_CHOICES = (1, 2, 5, 10, 20)


class VllmNames(Collector):
    """The engine's gauges and counters, and the families of `same`, by vLLM's names."""

    def __init__(
        self,
        model: str,
        read_engine: Callable[[], EngineView | None],
        same: Iterable[Collector],
    ) -> None:
        self._labels = [model, _ENGINE]
        self._read_engine = read_engine
        self._same = tuple(same)

    def collect(self) -> Iterator[Metric]:
        view = self._read_engine() or EngineView.of_nothing()
        yield from self._gauges(view)
        yield from self._counters(view.stats)
        for source in self._same:
            for family in source.collect():
                yield _renamed(family)

    def _gauges(self, view: EngineView) -> Iterator[Metric]:
        waiting = view.num_waiting
        yield self._gauge("num_requests_running", "Sequences that run.", view.stats.num_running)
        yield self._gauge("num_requests_waiting", "Sequences that wait.", waiting)
        yield self._gauge_by(
            "num_requests_waiting_by_reason",
            "Sequences that wait, by what they wait for.",
            "reason",
            {"capacity": waiting, "deferred": 0},
        )
        yield self._gauge(
            "kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", view.kv_cache_usage
        )
        yield self._gauge_by(
            "engine_sleep_state",
            "Whether the engine sleeps, and what it gave back: 1 at the state that holds.",
            "sleep_state",
            {state: int(level == view.stats.sleep_level) for level, state in _SLEEP_STATES.items()},
        )
        if view.block_size:
            info = GaugeMetricFamily(
                "vllm:cache_config_info",
                "The KV cache, in its labels.",
                labels=["block_size", "num_gpu_blocks", "engine"],
            )
            info.add_metric([str(view.block_size), str(view.stats.kv_blocks_total), _ENGINE], 1)
            yield info
        if view.adapters is not None:
            yield self._adapters(view.adapters, view.stats)

    def _adapters(self, names: AdapterNames, stats: EngineStats) -> Metric:
        """The value is the Unix time: who reads it takes the latest of several."""
        labels = {
            "max_lora": str(names.max_loras),
            "waiting_lora_adapters": ",".join(names.of(stats.waiting_adapters)),
            "running_lora_adapters": ",".join(names.of(stats.running_adapters)),
        }
        gauge = GaugeMetricFamily(
            "vllm:lora_requests_info", "Adapters in use, in its labels.", labels=list(labels)
        )
        gauge.add_metric(list(labels.values()), time.time())
        return gauge

    def _counters(self, stats: EngineStats) -> Iterator[Metric]:
        prompt, cached = stats.prompt_tokens_total, stats.prefix_cache_hit_tokens_total
        queries = stats.prefix_cache_query_tokens_total
        plain = (
            ("prompt_tokens", "Tokens of prompts.", prompt),
            ("prompt_tokens_cached", "Of them, tokens found in the prefix cache.", cached),
            ("generation_tokens", "Tokens made.", stats.generation_tokens_total),
            ("prefix_cache_queries", "Tokens looked for in the prefix cache.", queries),
            ("prefix_cache_hits", "Tokens found in the prefix cache.", cached),
            ("external_prefix_cache_queries", "There is none.", 0),
            ("external_prefix_cache_hits", "There is none.", 0),
            ("mm_cache_queries", "There is none.", 0),
            ("mm_cache_hits", "There is none.", 0),
            ("num_preemptions", "Sequences that were recomputed.", stats.preemptions_total),
        )
        for name, text, number in plain:
            counter = CounterMetricFamily(f"vllm:{name}", text, labels=_LABELS)
            counter.add_metric(self._labels, number)
            yield counter
        sources = {
            "local_compute": prompt - cached,
            "local_cache_hit": cached,
            "external_kv_transfer": 0,
        }
        by_source = CounterMetricFamily(
            "vllm:prompt_tokens_by_source", "Tokens of prompts.", labels=[*_LABELS, "source"]
        )
        for source, number in sources.items():
            by_source.add_metric([*self._labels, source], number)
        yield by_source

    def _gauge(self, name: str, text: str, number: float) -> Metric:
        gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        gauge.add_metric(self._labels, number)
        return gauge

    def _gauge_by(self, name: str, text: str, label: str, numbers: dict[str, int]) -> Metric:
        gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=[*_LABELS, label])
        for value, number in numbers.items():
            gauge.add_metric([*self._labels, value], number)
        return gauge


class VllmSequences:
    """What vLLM tells of each finished sequence and Octavo's own metrics do not."""

    def __init__(self, model: str, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            family = Histogram(f"vllm:{name}", text, _LABELS, buckets=buckets, registry=registry)
            return family.labels(model, _ENGINE)

        self._prompt_tokens = histogram("request_prompt_tokens", "Tokens of a prompt.", _TOKENS)
        self._tokens = histogram("request_generation_tokens", "Tokens of an answer.", _TOKENS)
        self._longest = histogram(
            "request_max_num_generation_tokens", "Tokens of the longest answer.", _TOKENS
        )
        self._computed = histogram(
            "request_prefill_kv_computed_tokens", "Tokens of a prompt not in the cache.", _TOKENS
        )
        self._n = histogram("request_params_n", "Of the request.", _CHOICES)
        self._max_tokens = histogram("request_params_max_tokens", "Of the request.", _TOKENS)
        self._prefill = histogram(
            "request_prefill_time_seconds", "From the first step to the first token.", _SECONDS
        )
        self._decode = histogram(
            "request_decode_time_seconds", "From the first token to the last.", _SECONDS
        )
        self._inference = histogram(
            "request_inference_time_seconds", "From the first step to the last token.", _SECONDS
        )
        self._per_token = histogram(
            "request_time_per_output_token_seconds", "Of an answer, in the mean.", _TOKEN_SECONDS
        )

    def observe(self, timeline: Timeline) -> None:
        """A sequence has made its last token."""
        computed = timeline.num_prompt_tokens - timeline.num_cached_tokens
        figures = (
            (self._prompt_tokens, timeline.num_prompt_tokens),
            (self._tokens, timeline.num_tokens),
            (self._longest, timeline.num_tokens),
            (self._computed, computed),
            (self._n, timeline.n),
            (self._max_tokens, timeline.max_tokens),
            (self._prefill, timeline.prefill_seconds),
            (self._decode, timeline.decode_seconds),
            (self._inference, timeline.inference_seconds),
            (self._per_token, timeline.seconds_per_token),
        )
        for histogram, figure in figures:
            if figure is not None:
                histogram.observe(figure)


def _renamed(family: Metric) -> Metric:
    name = RENAMED[family.name]
    renamed = Metric(name, family.documentation, family.type)
    for sample in family.samples:
        labels = {
            _RENAMED_LABELS.get(label, label): value for label, value in sample.labels.items()
        }
        renamed.add_sample(
            f"{name}{sample.name.removeprefix(family.name)}",
            {**labels, "engine": _ENGINE},
            sample.value,
        )
    return renamed
