"""Logit bias: numbers that a request adds to the scores of tokens that it names (OpenAI's definition)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from octavo.kernels.packed_step import PackedView, Packer
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


class LogitBias(LogitsProcessor):
    """Does not depend on what a sequence holds."""

    def is_wanted(self, params: SamplingParams) -> bool:
        return bool(params.logit_bias)

    def examples(self, params: SamplingParams) -> tuple[SamplingParams, ...]:
        return (msgspec.structs.replace(params, logit_bias={0: 1.0}),)

    def on_host(self, state: SamplingState) -> HostProcessor:
        return HostBias(state.params)

    def on_device(self, room: DeviceRoom) -> DeviceProcessor:
        del room
        return DeviceBias()


class HostBias(HostProcessor):
    def __init__(self, params: SamplingParams) -> None:
        self._ids, self._values = _bias(params)

    def shape(self, scores: Floats) -> None:
        scores[self._ids] += self._values


class DeviceBias(DeviceProcessor):
    """What each sequence adds goes along with every step: some kilobytes at most."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Ints, Floats]] = {}

    def begin(self, row: int, state: SamplingState) -> None:
        self._held[row] = _bias(state.params)

    def release(self, row: int) -> None:
        del self._held[row]

    def pack(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedShape | None:
        del states
        samples = [sample for sample, row in enumerate(rows.tolist()) if row in self._held]
        if not samples:
            return None
        held = [self._held[int(rows[sample])] for sample in samples]
        ids = np.concatenate([ids for ids, _ in held])
        return PackedBias(
            size=len(ids),
            samples=packer.put(np.repeat(samples, [len(ids) for ids, _ in held])),
            token_ids=packer.put(ids),
            values=packer.put(np.concatenate([values for _, values in held])),
        )


@dataclass(frozen=True, slots=True)
class PackedBias(PackedShape):
    """Where samples and token ids (int64) and what is added (float32) lie, `size` of each; no pair of a
    sample and a token comes twice."""

    size: int
    samples: int
    token_ids: int
    values: int

    def shape(self, scores: torch.Tensor, view: PackedView) -> None:
        index = view.int64(self.samples, self.size), view.int64(self.token_ids, self.size)
        scores.index_put_(index, scores[index] + view.float32(self.values, self.size))


def _bias(params: SamplingParams) -> tuple[Ints, Floats]:
    bias = params.logit_bias or {}
    ids = np.fromiter(bias.keys(), dtype=np.int64, count=len(bias))
    return ids, np.fromiter(bias.values(), dtype=np.float32, count=len(bias))
