"""Allowed tokens: the only ones that a request may get (vLLM's `allowed_token_ids`)."""

from __future__ import annotations

import msgspec

from octavo.sampling.arrays import Floats
from octavo.sampling.processors.base import (
    DeviceProcessor,
    DeviceRoom,
    HostProcessor,
    LogitsProcessor,
)
from octavo.sampling.processors.token_masks import (
    DeviceMasks,
    MaskOf,
    apply_on_host,
)
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.token_mask import Mask, mask_of


class AllowedTokens(LogitsProcessor):
    """Does not depend on what a sequence holds."""

    def is_wanted(self, params: SamplingParams) -> bool:
        return params.allowed_token_ids is not None

    def examples(self, params: SamplingParams) -> tuple[SamplingParams, ...]:
        return (msgspec.structs.replace(params, allowed_token_ids=[0]),)

    def on_host(self, state: SamplingState) -> HostProcessor:
        return HostAllowed(state.params)

    def on_device(self, room: DeviceRoom) -> DeviceProcessor:
        def of_row(state: SamplingState) -> MaskOf:
            mask = mask_of(state.params.allowed_token_ids or [], room.vocab_size)
            return lambda _: mask

        return DeviceMasks(of_row)


class HostAllowed(HostProcessor):
    """The mask is made of the first scores, which tell the vocabulary's size."""

    def __init__(self, params: SamplingParams) -> None:
        self._token_ids = params.allowed_token_ids or []
        self._mask: Mask | None = None

    def shape(self, scores: Floats) -> None:
        if self._mask is None:
            self._mask = mask_of(self._token_ids, len(scores))
        apply_on_host(self._mask, scores)
