"""Logits processors: what shapes a request's scores, in the order in which it is applied.

Host sampler, device sampler, packing, warm-up and scheduler walk `PROCESSORS` through the functions below.
To add one, write a file as `base.py` says and name it here.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo.sampling.processors.allowed_tokens import AllowedTokens
from octavo.sampling.processors.bad_words import BadWords
from octavo.sampling.processors.base import (
    DeviceProcessor,
    DeviceRoom,
    HostProcessor,
    LogitsProcessor,
)
from octavo.sampling.processors.grammar import GrammarMasks
from octavo.sampling.processors.logit_bias import LogitBias
from octavo.sampling.processors.min_tokens import MinTokens
from octavo.sampling.processors.penalties import Penalties
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams

PROCESSORS: tuple[LogitsProcessor, ...] = (
    Penalties(),
    LogitBias(),
    AllowedTokens(),
    BadWords(),
    MinTokens(),
    GrammarMasks(),
)


def any_wanted(params: SamplingParams) -> bool:
    """Whether anything shapes the request's scores."""
    for processor in PROCESSORS:  # noqa: SIM110 - asked of each row in each step, and a generator costs more
        if processor.is_wanted(params):
            return True
    return False


def waits_for_token(params: SamplingParams) -> bool:
    """Whether a sequence is not to be sampled while its last token is under way."""
    return any(p.is_wanted(params) and p.waits_for_token(params) for p in PROCESSORS)


def prepare(states: Sequence[SamplingState]) -> None:
    """Works out together what will shape these rows, as far as that is worth it; see `LogitsProcessor`."""
    for processor in PROCESSORS:
        processor.prepare(states)


def each_example(params: SamplingParams) -> list[SamplingParams]:
    """`params` with one processor at a time, in all ways that have kernels of their own."""
    return [example for processor in PROCESSORS for example in processor.examples(params)]


def with_all(params: SamplingParams) -> SamplingParams:
    """`params` with all processors at once, each in the way that takes most memory."""
    for processor in PROCESSORS:
        params = processor.examples(params)[-1]
    return params


def on_host(state: SamplingState) -> list[HostProcessor]:
    """What shapes one sequence's scores, in order."""
    return [p.on_host(state) for p in PROCESSORS if p.is_wanted(state.params)]


def on_device(room: DeviceRoom) -> list[tuple[LogitsProcessor, DeviceProcessor]]:
    """All of them, in order."""
    return [(processor, processor.on_device(room)) for processor in PROCESSORS]
