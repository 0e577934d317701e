"""Readback. The way of sampled tokens back to the host, on a stream of its own.

The next step may be queued behind this one before its tokens are read, so reading waits for one event and
never for the device.
"""

from __future__ import annotations

import msgspec
import torch

from octavo.errors import DeviceFaultError
from octavo.kernels.reference.sampling.logprobs import TopLogprobs
from octavo.sampling.device.samples import DeviceSamples, Samples
from octavo.sampling.device.verify import accepted
from octavo.sampling.state import SampledToken
from octavo.worker import machine
from octavo.worker.gpu.prompt_scores import PackedScores, entries_of, told_scores, with_entries

# A wait that polls sees a step's end at once, but keeps a core busy for as long as requests run; one that
# sleeps is woken by an interrupt, which takes longer. The next step runs meanwhile, so being late costs
# latency and rarely throughput. Where the process has few cores, polling would take those of what tokenises
# and streams, and cost more than it saves.
_MIN_CPUS_TO_POLL = 4


class Readback:
    """Copies to pinned memory; one for each executor."""

    def __init__(self, device: torch.device) -> None:
        self._must_sleep = machine.available_cpus() < _MIN_CPUS_TO_POLL
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(
        self,
        sampled: DeviceSamples,
        samples: Samples,
        scores: PackedScores | None = None,
        scored: TopLogprobs | None = None,
    ) -> PendingSamples:
        """Queues the copies behind what the current stream holds; `scored` are those of `scores`."""
        if self._stream is None:
            copy, scored_copy = _host_copy(sampled), _copy_logprobs(scored)
            return PendingSamples(samples, copy, None, None, scores, scored_copy)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            copy, scored_copy = _host_copy(sampled), _copy_logprobs(scored)
            done = self._mark()
        return PendingSamples(samples, copy, done, (sampled, scored), scores, scored_copy)

    def start_unsampled(
        self, scores: PackedScores | None, scored: TopLogprobs | None
    ) -> PendingSamples:
        """Of a step that samples nothing: its result waits all the same. Otherwise the host would queue the
        chunks of a long prompt one after another, and who comes then would wait for all of them."""
        if scored is None or self._stream is None:
            return PendingSamples(None, None, self._mark(), None, scores, _copy_logprobs(scored))
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            scored_copy = _copy_logprobs(scored)
            done = self._mark()
        return PendingSamples(None, None, done, (None, scored), scores, scored_copy)

    def _mark(self) -> torch.cuda.Event | None:
        """Behind what the current stream holds."""
        if self._stream is None:
            return None
        done = torch.cuda.Event(blocking=self._must_sleep)  # type: ignore[no-untyped-call]
        done.record()
        return done


class PendingSamples:
    """See `PendingStep`.

    Args:
        samples, copy: None for a step that samples nothing.
        done: When the copy is made; None where nothing is queued.
        source: What is copied. Held until then, because the stream that its memory goes back to does not
            know of the copying one. `record_stream` would tell it, by an event each step, and freeing such
            a tensor on a lost device aborts the process.
        scores, scored_copy: Of prompts; None where their log-probabilities are not wanted.
    """

    def __init__(
        self,
        samples: Samples | None,
        copy: DeviceSamples | None,
        done: torch.cuda.Event | None,
        source: tuple[DeviceSamples | None, TopLogprobs | None] | None = None,
        scores: PackedScores | None = None,
        scored_copy: TopLogprobs | None = None,
    ) -> None:
        self._samples = samples
        self._copy = copy
        self._done = done
        self._source = source
        self._scores = scores
        self._scored_copy = scored_copy

    def result(self) -> list[SampledToken]:
        """Raises `DeviceFaultError` when the device failed under the step."""
        if self._done is not None:
            try:
                self._done.synchronize()
            except torch.AcceleratorError as error:
                raise DeviceFaultError(f"The GPU failed while a step ran: {error}") from error
        self._source = None
        if self._samples is None or self._copy is None:
            return []
        tokens = _to_tokens(self._samples, self._copy)
        drafts = self._samples.drafts
        if drafts is None:
            return tokens
        return accepted(tokens, self._samples.states, drafts.of_sequences)

    @property
    def drafter_seconds(self) -> float:
        return 0.0  # it is the device's time

    @property
    def scored(self) -> list[SampledToken]:
        if self._scores is None or self._scored_copy is None:
            return []
        return told_scores(self._scores, self._scored_copy)


def _host_copy(sampled: DeviceSamples) -> DeviceSamples:
    return DeviceSamples(
        _copy(sampled.tokens),
        _copy(sampled.peaks),
        _copy_logprobs(sampled.logprobs),
        None if sampled.embeddings is None else _copy(sampled.embeddings),
    )


def _copy_logprobs(top: TopLogprobs | None) -> TopLogprobs | None:
    if top is None:
        return None
    return TopLogprobs(
        own_logprob=_copy(top.own_logprob),
        own_rank=_copy(top.own_rank),
        top_ids=_copy(top.top_ids),
        top_logprobs=_copy(top.top_logprobs),
    )


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    is_cuda = tensor.device.type == "cuda"
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=is_cuda)
    return host.copy_(tensor, non_blocking=True)


def _to_tokens(samples: Samples, copy: DeviceSamples) -> list[SampledToken]:
    token_ids: list[int] = copy.tokens.tolist()
    is_finite = copy.peaks.isfinite()
    are_finite = bool(is_finite.all())
    if copy.logprobs is None and copy.embeddings is None and are_finite:
        return [SampledToken(s, t) for s, t in zip(samples.sequence_ids, token_ids, strict=True)]
    tokens = [SampledToken(s, t) for s, t in zip(samples.sequence_ids, token_ids, strict=True)]
    if copy.logprobs is not None:
        entries = entries_of(copy.logprobs)
        for index, entry in zip(samples.with_logprobs, entries, strict=True):
            count = samples.states[index].params.logprobs or 0
            tokens[index] = with_entries(tokens[index].sequence_id, token_ids[index], entry, count)
    if copy.embeddings is not None:
        for index, embedding in zip(samples.pooled, copy.embeddings.tolist(), strict=True):
            tokens[index] = msgspec.structs.replace(tokens[index], embedding=embedding)
    if are_finite:
        return tokens
    return [
        token if finite else msgspec.structs.replace(token, is_spoilt=True)
        for token, finite in zip(tokens, is_finite.tolist(), strict=True)
    ]
