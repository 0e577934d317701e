"""Grammar masks: the tokens that may come next in a document of a schema or grammar.

All rows' masks are worked out together: on a device between the model's launch and the draw, on a host beside
the model's step where it has a core for that (`octavo.worker.cpu.masks_ahead`), else behind it.
"""

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
from octavo.sampling.processors.token_masks import DeviceMasks, apply_on_host
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.structured_outputs import StructuredOutputsParams
from octavo.token_mask import Mask, num_words


class GrammarMasks(LogitsProcessor):
    """What may come next depends on each token before it."""

    def is_wanted(self, params: SamplingParams) -> bool:
        return params.structured_outputs is not None

    def waits_for_token(self, params: SamplingParams) -> bool:
        return True

    def prepare(self, states: Sequence[SamplingState]) -> None:
        prepare_masks(states)

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


class DeviceGrammars(DeviceMasks):
    """Masks that are packed late."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(lambda _: lambda now: _next_mask(now, vocab_size))

    def pack(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedShape | None:
        return None

    def pack_late(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedShape | None:
        if not self.has_rows:
            return None
        prepare_masks(states)
        return super().pack(rows, states, packer)


def prepare_masks(states: Sequence[SamplingState]) -> None:
    """Works out together what these rows' grammars let through; some rows may have none."""
    following = [state for state in states if state.grammar is not None]
    if following and (grammar := following[0].grammar) is not None:
        grammar.source.prepare(following)


def _next_mask(state: SamplingState, vocab_size: int) -> Mask:
    if state.grammar is None:  # warm-up follows none
        return np.full(num_words(vocab_size), -1, dtype=np.int32)
    return state.grammar.next_mask(state.output_token_ids, state.guesses)
