"""Request metrics: what a process that answers requests sees of them (latencies, ends, refusals, keys)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.registry import Collector

from octavo.server.process.latency_histogram import Cells, LatencyHistogram
from octavo.server.process.timeline import Timeline
from octavo.server.process.vllm_metrics import VllmSequences

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


def inter_token_latency(model: str, cells: Cells | None = None) -> LatencyHistogram:
    """Args:
    cells: See `LatencyHistogram`.
    """
    return LatencyHistogram(
        "octavo_inter_token_latency_seconds",
        "Between two tokens of one sequence.",
        model,
        _TOKEN_BUCKETS,
        cells,
    )


class RequestMetrics:
    """Registered in `registry`.

    Args:
        model: The first served name: the label `model`.
        has_vllm_names: Also observes what vLLM tells of each sequence.
        cells: Of the latency between tokens; see `LatencyHistogram`.
    """

    def __init__(
        self,
        model: str,
        registry: CollectorRegistry,
        *,
        has_vllm_names: bool = False,
        cells: Cells | None = None,
    ) -> None:
        labels = ["model"]

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, labels, buckets=_LATENCY_BUCKETS, registry=registry)

        first_token = histogram(
            "octavo_time_to_first_token_seconds", "From a request's arrival to its first token."
        )
        duration = histogram(
            "octavo_request_duration_seconds", "From a request's arrival to its last token."
        )
        queue_time = histogram(
            "octavo_queue_time_seconds", "From a request's arrival to its first step."
        )
        self.time_to_first_token = first_token.labels(model)
        self.inter_token_latency = inter_token_latency(model, cells)
        registry.register(self.inter_token_latency)
        self.request_duration = duration.labels(model)
        self.queue_time = queue_time.labels(model)

        def counter(name: str, text: str, label: str) -> Counter:
            return Counter(name, text, ["model", label], registry=registry)

        self._requests = counter(
            "octavo_requests", "Sequences that ended, by the reason.", "finish_reason"
        )
        self._rejected = counter(
            "octavo_requests_rejected",
            "Requests that were answered with an error, by its code.",
            "reason",
        )
        self._key_requests = counter(
            "octavo_key_requests", "Requests of an API key, by the key's name.", "key"
        )
        self._key_tokens = counter(
            "octavo_key_tokens",
            "Tokens of prompts and answers of an API key, by the key's name.",
            "key",
        )
        for reason in ("stop", "length", "abort", "error"):
            self._requests.labels(model, reason)
        self._rejected.labels(model, "queue_full")
        self._model = model
        self._vllm_sequences = VllmSequences(model, registry) if has_vllm_names else None
        self.with_vllm_equals: tuple[Collector, ...] = (
            first_token,
            self.inter_token_latency,
            duration,
            queue_time,
            self._requests,
        )
        """What vLLM tells by another name."""

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
