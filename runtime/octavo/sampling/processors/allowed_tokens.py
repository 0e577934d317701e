"""Allowed tokens: the only ones that a request may get (vLLM's `allowed_token_ids`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from octavo.kernels.packed_step import Packer
from octavo.sampling.arrays import Floats, Ints
from octavo.sampling.processors.base import (
    DeviceProcessor,
    DeviceRoom,
    HostProcessor,
    LogitsProcessor,
    PackedShape,
)
from octavo.sampling.processors.token_masks import Mask, apply_on_host, mask_of, pack_masks
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams


class AllowedTokens(LogitsProcessor):
    """Does not depend on what a sequence holds."""

    def is_wanted(self, params: SamplingParams) -> bool:
        return params.allowed_token_ids is not None

    def examples(self, params: SamplingParams) -> tuple[SamplingParams, ...]:
        return (msgspec.structs.replace(params, allowed_token_ids=[0]),)

    def on_host(self, state: SamplingState) -> HostProcessor:
        return HostAllowed(state.params)

    def on_device(self, room: DeviceRoom) -> DeviceProcessor:
        return DeviceAllowed(room.vocab_size)


class HostAllowed(HostProcessor):
    """The mask is made of the first scores, which tell the vocabulary's size."""

    def __init__(self, params: SamplingParams) -> None:
        self._token_ids = params.allowed_token_ids or []
        self._mask: Mask | None = None

    def shape(self, scores: Floats) -> None:
        if self._mask is None:
            self._mask = mask_of(self._token_ids, len(scores))
        apply_on_host(self._mask, scores)


class DeviceAllowed(DeviceProcessor):
    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._masks: dict[int, Mask] = {}

    def begin(self, row: int, state: SamplingState) -> None:
        self._masks[row] = mask_of(state.params.allowed_token_ids or [], self._vocab_size)

    def release(self, row: int) -> None:
        del self._masks[row]

    def pack(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedShape | None:
        del states
        samples = [sample for sample, row in enumerate(rows.tolist()) if row in self._masks]
        if not samples:
            return None
        return pack_masks(samples, [self._masks[int(rows[sample])] for sample in samples], packer)
