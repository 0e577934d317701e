"""Following runner: that of every rank but the first, which sends it each step as the first packed it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from octavo.kernels.protocols.device import DeviceKernels
from octavo.layers.ranks import Ranks
from octavo.models.base import CausalLM
from octavo.models.seated_adapters import SeatedAdapters
from octavo.worker.batch import FinishedStep, StepBatch
from octavo.worker.gpu.adapter_packing import told_seats
from octavo.worker.gpu.packed_runner import PackedRunner, RunnerLimits
from octavo.worker.gpu.step_outline import unpack_frame

NextStep = Callable[[], bytes]
"""Waits for the first rank's next step."""


class FollowingRunner(PackedRunner):
    """Computes this rank's part of what the first rank computes, and samples nothing.

    Args:
        adapters: Of this rank's part of the model; None: it takes none.
    """

    def __init__(
        self,
        model: CausalLM,
        kernels: DeviceKernels,
        limits: RunnerLimits,
        *,
        device: torch.device,
        dtype: torch.dtype,
        cache_dtype: torch.dtype,
        ranks: Ranks,
        next_step: NextStep,
        adapters: SeatedAdapters | None = None,
    ) -> None:
        super().__init__(
            model,
            kernels,
            limits,
            device=device,
            dtype=dtype,
            cache_dtype=cache_dtype,
            ranks=ranks,
        )
        self._next_step = next_step
        self._adapters = adapters

    @torch.inference_mode()
    def follow(self, frame: bytes) -> None:
        """Queues one step, of `pack_frame`."""
        outline, packer, packed = unpack_frame(frame)
        if self._adapters is not None:
            self._adapters.sit_down(told_seats(packed, outline.seats, outline.num_adapters))
        rows = self.run(outline, packer)
        if rows is None:
            return
        for _ in self.scored_logits(rows):
            pass  # the first rank has what was gathered
        if outline.num_samples:
            self.sampled_logits(rows)
            tokens = torch.empty(outline.num_samples, dtype=torch.int64, device=self.device)
            self.keep_tokens(rows, tokens)

    def submit(self, batch: StepBatch) -> FinishedStep:
        """While all ranks prepare and each knows by itself which steps there are: the first rank's next, of
        which `batch` says no more than that there is one."""
        if batch.entries:
            self.follow(self._next_step())
        return FinishedStep([])
