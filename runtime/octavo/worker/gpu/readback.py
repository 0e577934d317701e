"""Readback. The way of sampled tokens back to the host, on a stream of its own.

The next step may be queued behind this one before its tokens are read, so reading waits for one event and
never for the device.
"""

from __future__ import annotations

import torch

from octavo.errors import DeviceFaultError
from octavo.kernels.reference.sampling.logprobs import TopLogprobs
from octavo.sampling.device.samples import DeviceSamples, Samples
from octavo.sampling.state import SampledToken
from octavo.worker import machine

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

    def start(self, sampled: DeviceSamples, samples: Samples) -> PendingSamples:
        """Queues the copies behind what the current stream holds."""
        if self._stream is None:
            return PendingSamples(samples, _host_copy(sampled), None)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            copy = _host_copy(sampled)
            done = self._mark()
        return PendingSamples(samples, copy, done, sampled)

    def start_empty(self) -> PendingSamples:
        """Of a step that samples nothing: its result waits all the same. Otherwise the host would queue the
        chunks of a long prompt one after another, and who comes then would wait for all of them."""
        return PendingSamples(None, None, self._mark())

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
    """

    def __init__(
        self,
        samples: Samples | None,
        copy: DeviceSamples | None,
        done: torch.cuda.Event | None,
        source: DeviceSamples | None = None,
    ) -> None:
        self._samples = samples
        self._copy = copy
        self._done = done
        self._source = source

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
        return _to_tokens(self._samples, self._copy)


def _host_copy(sampled: DeviceSamples) -> DeviceSamples:
    def copy(tensor: torch.Tensor) -> torch.Tensor:
        is_cuda = tensor.device.type == "cuda"
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=is_cuda)
        return host.copy_(tensor, non_blocking=True)

    top = sampled.logprobs
    return DeviceSamples(
        copy(sampled.tokens),
        None
        if top is None
        else TopLogprobs(
            own_logprob=copy(top.own_logprob),
            own_rank=copy(top.own_rank),
            top_ids=copy(top.top_ids),
            top_logprobs=copy(top.top_logprobs),
        ),
        None if sampled.embeddings is None else copy(sampled.embeddings),
    )


def _to_tokens(samples: Samples, copy: DeviceSamples) -> list[SampledToken]:
    token_ids: list[int] = copy.tokens.tolist()
    if copy.logprobs is None and copy.embeddings is None:
        return [SampledToken(s, t) for s, t in zip(samples.sequence_ids, token_ids, strict=True)]
    tops: dict[int, tuple[list[int], list[float], list[int]]] = {}
    if copy.logprobs is not None:
        top = copy.logprobs
        columns = (top.own_logprob, top.own_rank, top.top_ids, top.top_logprobs)
        lists = zip(*(column.tolist() for column in columns), strict=True)
        for index, (own, rank, ids, values) in zip(samples.with_logprobs, lists, strict=True):
            count = min(samples.states[index].params.logprobs or 0, len(ids))
            tops[index] = (
                [token_ids[index], *ids[:count]],
                [own, *values[:count]],
                [rank, *range(1, count + 1)],
            )
    embeddings: dict[int, list[float]] = {}
    if copy.embeddings is not None:
        embeddings = dict(zip(samples.pooled, copy.embeddings.tolist(), strict=True))
    tokens = []
    for index, sequence_id in enumerate(samples.sequence_ids):
        ids, values, ranks = tops.get(index, (None, None, None))
        embedding = embeddings.get(index)
        tokens.append(SampledToken(sequence_id, token_ids[index], ids, values, ranks, embedding))
    return tokens
