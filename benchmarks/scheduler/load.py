"""Drives a scheduler through steps whose tokens are made up, and times its two calls and the packing of the
step for a GPU: what the host does for a step beside the calls into CUDA."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.requests.sequence import Sequence
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.scheduler import Scheduler
from octavo.engine.step_limits import SchedulerConfig
from octavo.kernels.reference import device as reference
from octavo.sampling.device.rows import SamplingRows
from octavo.sampling.processors.base import DeviceRoom
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import StepBatch
from octavo.worker.gpu.state_rows import StateRows
from octavo.worker.gpu.step_packing import pack_step

BLOCK_SIZE = 16
PROMPT_TOKENS = 512
LONGEST_OUTPUT = 100_000  # no sequence ends by itself during a steady state
_VOCABULARY = 128_000
_BUFFER_ELEMENTS = 1 << 20  # more than any of these steps packs


@dataclass(frozen=True, slots=True)
class StepTime:
    """CPU seconds of one step: in `schedule`, in the packing for a GPU, in `update`."""

    schedule: float
    pack: float
    update: float

    @property
    def total(self) -> float:
        """Of the scheduler alone."""
        return self.schedule + self.update


class SchedulerLoad:
    """A scheduler with `num_running` sequences that decode.

    Prompts differ from their first token on, so that the prefix cache, where it is on, never hits.

    Args:
        num_blocks: Enough for all, unless preemption is wanted.
    """

    def __init__(self, num_running: int, *, caching: bool, num_blocks: int | None = None) -> None:
        self._num_added = 0
        per_sequence = (PROMPT_TOKENS + LONGEST_OUTPUT) // BLOCK_SIZE + 1
        blocks = num_blocks or 64 * num_running + per_sequence
        config = SchedulerConfig(
            max_num_seqs=num_running,
            max_num_batched_tokens=max(2048, num_running),
            enable_prefix_caching=caching,
        )
        self.scheduler = Scheduler(config, BlockManager(blocks, BLOCK_SIZE))
        self._params = SamplingParams(ignore_eos=True, max_tokens=None, top_p=0.9)
        room = DeviceRoom(reference, _VOCABULARY, 2 * num_running, torch.device("cpu"))
        self._rows = StateRows(room.num_rows, SamplingRows(room, seed=0))
        self._max_blocks = per_sequence
        self._host_buffer = np.zeros(_BUFFER_ELEMENTS, dtype=np.int32)
        self._num_running = num_running

    def fill(self) -> None:
        """Adds sequences and steps until all of them decode, at positions spread over a block."""
        for position in range(self._num_running):
            self.add(PROMPT_TOKENS + position % BLOCK_SIZE, LONGEST_OUTPUT)
        while self.scheduler.num_waiting:
            self.step()
        self.step()

    def add(self, num_prompt_tokens: int, max_output_tokens: int) -> None:
        number = self._num_added
        self._num_added += 1
        prompt = [(number * 7919 + i * 31) % _VOCABULARY for i in range(num_prompt_tokens)]
        prompt[0] = number % _VOCABULARY
        self.scheduler.add(
            Sequence(number, f"request-{number}", 0, prompt, self._params, max_output_tokens)
        )

    def step(self) -> StepTime:
        """One step; making up its tokens is not part of the time."""
        started = time.thread_time()
        batch = self.scheduler.schedule()
        scheduled = time.thread_time()
        self._pack(batch)
        packed = time.thread_time()
        tokens = _make_tokens(batch)
        sampled = time.thread_time()
        self.scheduler.update(batch, tokens)
        return StepTime(scheduled - started, packed - scheduled, time.thread_time() - sampled)

    def _pack(self, batch: ScheduledBatch) -> None:
        self._rows.release(batch.released)
        step = pack_step(
            StepBatch(batch.entries, batch.block_copies, batch.released),
            self._rows,
            vocab_size=_VOCABULARY,
            block_size=BLOCK_SIZE,
            max_blocks=self._max_blocks,
        )
        step.packer.write(self._host_buffer)


def _make_tokens(batch: ScheduledBatch) -> list[SampledToken]:
    return [
        SampledToken(entry.sequence_id, (entry.start * 7 + entry.sequence_id) % _VOCABULARY)
        for entry in batch.entries
        if entry.sampling is not None
    ]
