"""Grammar masks: the tokens that may come next in a document of a schema or grammar."""

from __future__ import annotations

import msgspec
import numpy as np

from octavo.sampling.arrays import Floats
from octavo.sampling.processors.base import (
    DeviceProcessor,
    DeviceRoom,
    HostProcessor,
    LogitsProcessor,
)
from octavo.sampling.processors.token_masks import DeviceMasks, apply_on_host
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.structured_outputs import StructuredOutputsParams
from octavo.token_mask import Mask


class GrammarMasks(LogitsProcessor):
    """What may come next depends on each token before it."""

    def is_wanted(self, params: SamplingParams) -> bool:
        return params.structured_outputs is not None

    def waits_for_token(self, params: SamplingParams) -> bool:
        return True

    def examples(self, params: SamplingParams) -> tuple[SamplingParams, ...]:
        outputs = StructuredOutputsParams(json_object=True)
        return (msgspec.structs.replace(params, structured_outputs=outputs),)

    def on_host(self, state: SamplingState) -> HostProcessor:
        return HostGrammar(state)

    def on_device(self, room: DeviceRoom) -> DeviceProcessor:
        return DeviceMasks(lambda _: lambda now: _next_mask(now, room.vocab_size))


class HostGrammar(HostProcessor):
    def __init__(self, state: SamplingState) -> None:
        self._state = state

    def shape(self, scores: Floats) -> None:
        apply_on_host(_next_mask(self._state, len(scores)), scores)


def _next_mask(state: SamplingState, vocab_size: int) -> Mask:
    if state.grammar is None:  # warm-up follows none
        return np.full(-(-vocab_size // 32), -1, dtype=np.int32)
    return state.grammar.next_mask(state.output_token_ids, state.guesses)
