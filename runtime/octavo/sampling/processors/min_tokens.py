"""Minimum length: no end before so many tokens (vLLM's `min_tokens`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from octavo.kernels.packed_step import Packer
from octavo.sampling.arrays import Floats, Ints
from octavo.sampling.processors.base import (
    DeviceProcessor,
    DeviceRoom,
    HostProcessor,
    LogitsProcessor,
    PackedShape,
)
from octavo.sampling.processors.token_masks import Mask, mask_of, pack_masks
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams


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
        return DeviceMinimum(room.vocab_size)


class HostMinimum(HostProcessor):
    def __init__(self, state: SamplingState) -> None:
        self._state = state
        self._ends = np.array(sorted(state.end_token_ids), dtype=np.int64)

    def shape(self, scores: Floats) -> None:
        if _is_short(self._state):
            scores[self._ends] = -np.inf


class DeviceMinimum(DeviceProcessor):
    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._held: dict[int, tuple[SamplingState, Mask]] = {}

    def begin(self, row: int, state: SamplingState) -> None:
        self._held[row] = state, ~mask_of(sorted(state.end_token_ids), self._vocab_size)

    def release(self, row: int) -> None:
        del self._held[row]

    def pack(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedShape | None:
        del states
        samples, masks = list[int](), list[Mask]()
        for sample, row in enumerate(rows.tolist()):
            state, mask = self._held.get(row, (None, None))
            if state is not None and mask is not None and _is_short(state):
                samples.append(sample)
                masks.append(mask)
        return pack_masks(samples, masks, packer) if samples else None


def _is_short(state: SamplingState) -> bool:
    return len(state.output_token_ids) < state.params.min_tokens
