"""Minimum length: no end before so many tokens (vLLM's `min_tokens`)."""

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
from octavo.sampling.processors.token_masks import DeviceMasks, MaskOf
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.token_mask import mask_of


class MinTokens(LogitsProcessor):
    """The tokens that would end a sequence are not drawn while its output is shorter."""

    def is_wanted(self, params: SamplingParams) -> bool:
        return params.min_tokens > 0

    def waits_for_token(self, params: SamplingParams) -> bool:
        """The output's length is that of its known tokens."""
        return True

    def examples(self, params: SamplingParams) -> tuple[SamplingParams, ...]:
        return (msgspec.structs.replace(params, min_tokens=1),)

    def on_host(self, state: SamplingState) -> HostProcessor:
        return HostMinimum(state)

    def on_device(self, room: DeviceRoom) -> DeviceProcessor:
        def of_row(state: SamplingState) -> MaskOf:
            no_end = ~mask_of(sorted(state.end_token_ids), room.vocab_size)
            return lambda now: no_end if _is_short(now) else None

        return DeviceMasks(of_row)


class HostMinimum(HostProcessor):
    def __init__(self, state: SamplingState) -> None:
        self._state = state
        self._ends = np.array(sorted(state.end_token_ids), dtype=np.int64)

    def shape(self, scores: Floats) -> None:
        if _is_short(self._state):
            scores[self._ends] = -np.inf


def _is_short(state: SamplingState) -> bool:
    return len(state.output_token_ids) + len(state.guesses) < state.params.min_tokens
