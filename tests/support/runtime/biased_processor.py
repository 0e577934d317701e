"""Logits processor that no product has: adds numbers to the scores of some tokens, as `logit_bias` does.

One file, and nothing else knows of it: what its tests show is that the contract is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import msgspec
import numpy as np
import torch

from octavo.kernels.packed_step import PackedView, Packer
from octavo.sampling import processors
from octavo.sampling.arrays import Floats, Ints
from octavo.sampling.processors.base import (
    DeviceProcessor,
    DeviceRoom,
    HostProcessor,
    LogitsProcessor,
    PackedShape,
)
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams


class BiasedParams(SamplingParams, frozen=True, kw_only=True):
    """Stands for the field that `SamplingParams` would get.

    Args:
        bias: Added to the scores of its tokens.
        follows_last: Only behind a token with an even number, so that the host must know the last one.
    """

    bias: dict[int, float] = msgspec.field(default_factory=dict)
    follows_last: bool = False


def add_bias(state: SamplingState, scores: Floats) -> None:
    """What the field means, for host and device alike."""
    params, output = state.params, state.output_token_ids
    assert isinstance(params, BiasedParams)
    if params.follows_last and output and output[-1] % 2:
        return
    for token, value in params.bias.items():
        scores[token] += value


class Bias(LogitsProcessor):
    """Records who it was asked about, so that tests see when sequences come and go."""

    def __init__(self) -> None:
        self.num_host_sequences = 0
        self.on_devices: list[DeviceBias] = []

    def is_wanted(self, params: SamplingParams) -> bool:
        return isinstance(params, BiasedParams)

    def waits_for_token(self, params: SamplingParams) -> bool:
        return isinstance(params, BiasedParams) and params.follows_last

    def examples(self, params: SamplingParams) -> tuple[SamplingParams, ...]:
        values = msgspec.structs.asdict(params)
        return (BiasedParams(**values | {"bias": {0: 1.0}}),)

    def on_host(self, state: SamplingState) -> HostProcessor:
        self.num_host_sequences += 1
        return HostBias(state)

    def on_device(self, room: DeviceRoom) -> DeviceProcessor:
        self.on_devices.append(DeviceBias(room))
        return self.on_devices[-1]


class HostBias(HostProcessor):
    def __init__(self, state: SamplingState) -> None:
        self._state = state

    def shape(self, scores: Floats) -> None:
        add_bias(self._state, scores)


class DeviceBias(DeviceProcessor):
    """A plane of the step's size is packed: plain, because what counts here is the contract."""

    def __init__(self, room: DeviceRoom) -> None:
        self._vocab_size = room.vocab_size
        self.states: dict[int, SamplingState] = {}
        self.shaped: list[list[SamplingParams]] = []  # of the samples of each step

    def begin(self, row: int, state: SamplingState) -> None:
        assert row not in self.states
        self.states[row] = state

    def release(self, row: int) -> None:
        del self.states[row]

    def pack(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedShape | None:
        plane = np.zeros((len(rows), self._vocab_size), dtype=np.float32)
        for index, (row, state) in enumerate(zip(rows.tolist(), states, strict=True)):
            if row in self.states:
                assert self.states[row] is state
                add_bias(state, plane[index])
        if not self.states.keys() & set(rows.tolist()):
            return None
        self.shaped.append([state.params for state in states])
        return PackedBias(packer.put(plane))


@dataclass(frozen=True)
class PackedBias(PackedShape):
    plane: int

    def shape(self, scores: torch.Tensor, view: PackedView) -> None:
        scores += view.float32(self.plane, scores.numel()).view(scores.shape)


@contextmanager
def registered(*, is_first: bool = False) -> Iterator[Bias]:
    """As if `octavo.sampling.processors` named it: before penalties, or behind them."""
    bias = Bias()
    known = processors.PROCESSORS
    changed = (bias, *known) if is_first else (*known, bias)
    with mock.patch.object(processors, "PROCESSORS", changed):
        yield bias
