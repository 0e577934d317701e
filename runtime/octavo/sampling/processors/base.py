"""Logits processor: the contract of what shapes a request's scores between the model and the draw.

A processor is one file with four parts: what it asks of a request (`LogitsProcessor`), one sequence's scores
in the host's memory (`HostProcessor`), and all sequences' scores on a device, in a half that packs
(`DeviceProcessor`) and a half that runs (`PackedShape`). Samplers, packing, warm-up and scheduler know these
alone; `octavo.sampling.processors` holds the list that they walk.

Every part promises that a row's scores follow from that row's logits and `SamplingState` alone, the same on
host and device: a row must not depend on its neighbours, on a preemption or on when its step was made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from octavo.kernels.packed_step import PackedView, Packer
from octavo.kernels.protocols.device import DeviceKernels
from octavo.sampling.arrays import Floats, Ints
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams


class LogitsProcessor(ABC):
    """What a request may want of its scores. Holds nothing of any sequence."""

    @abstractmethod
    def is_wanted(self, params: SamplingParams) -> bool:
        """Whether the request wants it; all else is asked for such requests alone."""

    def waits_for_token(self, params: SamplingParams) -> bool:
        """Whether the host must know a sequence's last token before it can shape the next scores.

        When it must, no step samples the sequence while its token is under way, and `output_token_ids` is
        complete whenever a part below is called. The sequence skips a step of those that overlap: let what
        the device can count itself stay there.
        """
        del params
        return False

    def prepare(self, states: Sequence[SamplingState]) -> None:
        """Works out together what will shape these rows, of which not all need want it: from another thread
        while the model's step runs, or right before the rows are shaped. By default nothing."""
        del states

    @abstractmethod
    def examples(self, params: SamplingParams) -> tuple[SamplingParams, ...]:
        """`params` that ask for this too: for warm-up, one of each way that has kernels of its own, and
        last the one that takes most memory."""

    @abstractmethod
    def on_host(self, state: SamplingState) -> HostProcessor:
        """For one sequence that begins, or comes back after a preemption."""

    @abstractmethod
    def on_device(self, room: DeviceRoom) -> DeviceProcessor:
        """For all sequences of one runner; may take memory when the first sequence wants it."""


class HostProcessor(ABC):
    """Shapes one sequence's scores, from its first sampled token until it ends or is preempted."""

    @abstractmethod
    def shape(self, scores: Floats) -> None:
        """Changes `scores` `[vocab]` in place. The state's output may have grown since the last call."""


@dataclass(frozen=True, slots=True)
class DeviceRoom:
    """Where scores are shaped on a device.

    Args:
        num_rows: Of the sequences' state: rows that `DeviceProcessor` gets are below it.
    """

    kernels: DeviceKernels
    vocab_size: int
    num_rows: int
    device: torch.device


class DeviceProcessor(ABC):
    """Knows the sequences that want it by the row of their state; works on the host and waits for nothing."""

    @abstractmethod
    def begin(self, row: int, state: SamplingState) -> None:
        """A sequence that wants it is sampled for the first time since it got its row."""

    @abstractmethod
    def release(self, row: int) -> None:
        """A sequence that began has ended, was preempted, or was in a step that failed."""

    @abstractmethod
    def pack(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedShape | None:
        """Packs what the device must be told of a step; None when no sample wants it.

        Args:
            rows, states: `[samples]`, of every sample of the step, also those that do not want it. A sequence
                has several where guesses are verified, in order, each with one more of `guesses`.
        """

    def pack_late(
        self, rows: Ints, states: Sequence[SamplingState], packer: Packer
    ) -> PackedShape | None:
        """As `pack`, into an array of its own and when the model's part of the step is queued: for what takes
        the host a while, which it works out while the device computes. By default nothing."""
        del rows, states, packer
        return None


class PackedShape(ABC):
    """A step's share of a device processor: places in the packed step."""

    @abstractmethod
    def shape(self, scores: torch.Tensor, view: PackedView) -> None:
        """Queues the change of `scores` `[samples, vocab]`, float32, in place."""

    def take(self, tokens: torch.Tensor, view: PackedView) -> None:
        """Queues what follows from the sampled `tokens` `[samples]`, int64; below zero where a guess before
        it did not come true. By default nothing."""
        del tokens, view
