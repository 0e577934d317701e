"""Grammar masks: the tokens that may come next in a document of a schema or grammar."""

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
from octavo.sampling.processors.token_masks import Mask, apply_on_host, pack_masks
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.structured_outputs import StructuredOutputsParams


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
        return DeviceGrammars(room.vocab_size)


class HostGrammar(HostProcessor):
    def __init__(self, state: SamplingState) -> None:
        self._state = state

    def shape(self, scores: Floats) -> None:
        apply_on_host(_next_mask(self._state, len(scores)), scores)


class DeviceGrammars(DeviceProcessor):
    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._states: dict[int, SamplingState] = {}

    def begin(self, row: int, state: SamplingState) -> None:
        self._states[row] = state

    def release(self, row: int) -> None:
        del self._states[row]

    def pack(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedShape | None:
        del states
        samples = [sample for sample, row in enumerate(rows.tolist()) if row in self._states]
        if not samples:
            return None
        held = (self._states[int(rows[sample])] for sample in samples)
        return pack_masks(samples, [_next_mask(state, self._vocab_size) for state in held], packer)


def _next_mask(state: SamplingState, vocab_size: int) -> Mask:
    if state.grammar is None:  # warm-up follows none
        return np.full(-(-vocab_size // 32), -1, dtype=np.int32)
    return state.grammar.next_mask(state.output_token_ids)
