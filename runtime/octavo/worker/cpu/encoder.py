"""Executor of encoders: whole prompts in one step, pooled; there is no KV cache and no sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.layers.encoder_attention import EncoderStep
from octavo.layers.pooling import pool
from octavo.loading.pooling import Pooling
from octavo.models.base import Encoder
from octavo.sampling.state import SampledToken
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import (
    ExecutorInfo,
    FinishedStep,
    PendingStep,
    ScheduledSequence,
    StepBatch,
)
from octavo.worker.cpu.followers import Followers, Nobody
from octavo.worker.wakeable import Wakeable

# Every request's first token ends it; which one it is says nothing.
_NO_TOKEN = 0

Pool = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]


class PromptRunner(Protocol):
    """Runs whole prompts, here or on several ranks."""

    def run(self, entries: Sequence[ScheduledSequence]) -> list[list[float]]:
        """The vector of each. Raises `ValueError` for a part of a prompt."""
        ...


class EncoderExecutor:
    """See the `Executor` protocol. Blocks are counted by the scheduler and hold nothing.

    Args:
        followers: Other ranks.
    """

    def __init__(
        self,
        loaded: Wakeable[Encoder, PromptRunner],
        info: ExecutorInfo,
        followers: Followers | None = None,
    ) -> None:
        self._loaded = loaded
        self._info = info
        self._followers = Nobody() if followers is None else followers

    @property
    def info(self) -> ExecutorInfo:
        return self._info

    def submit(self, batch: StepBatch) -> PendingStep:
        rows = self.run(batch.entries)
        return FinishedStep(
            [
                SampledToken(entry.sequence_id, _NO_TOKEN, embedding=row)
                for entry, row in zip(batch.entries, rows, strict=True)
            ]
        )

    def sleep(self, level: SleepLevel) -> None:
        self._followers.sleep(level)
        self._loaded.sleep(level)

    def wake_up(self) -> None:
        self._followers.wake_up()
        self._loaded.wake_up()
        self._followers.wait_until_awake()

    def run(self, entries: Sequence[ScheduledSequence]) -> list[list[float]]:
        """As `PromptRunner`."""
        return self._loaded.runner.run(entries)


class EncoderRunner:
    """See `PromptRunner`.

    Args:
        pooling: Of a model without a head.
    """

    def __init__(self, model: Encoder, pooling: Pooling | None) -> None:
        self._model = model
        self._pooled = pooling_of(model, pooling)

    @torch.inference_mode()
    def run(self, entries: Sequence[ScheduledSequence]) -> list[list[float]]:
        # Equal lengths together: they attend as one product.
        order = sorted(range(len(entries)), key=lambda index: len(entries[index].token_ids))
        ordered = [entries[index] for index in order]
        token_ids, step = _lay_out(ordered)
        vectors = self._pooled(self._model.forward(token_ids, step), step.lengths)
        rows: list[list[float]] = [[]] * len(entries)
        for index, row in zip(order, vectors.tolist(), strict=True):
            rows[index] = row
        return rows


def pooling_of(model: Encoder, pooling: Pooling | None) -> Pool:
    """What becomes of hidden states: vectors `[sequences, width]`, float32, a score where the model has a
    head.

    Args:
        pooling: Of a model without a head.
    """
    if model.head is not None:
        return model.head
    if pooling is None:
        raise ValueError("An encoder without a head needs a pooling.")
    mode, is_normalised = pooling.mode, pooling.is_normalised

    def pooled(hidden: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        rows = pool(hidden, lengths, mode)
        return F.normalize(rows, dim=-1) if is_normalised else rows

    return pooled


def _lay_out(entries: Sequence[ScheduledSequence]) -> tuple[torch.Tensor, EncoderStep]:
    """Token ids `[tokens]`, and what the layers must know."""
    lengths = tuple(len(entry.token_ids) for entry in entries)
    token_ids, positions, segments = np.zeros((3, sum(lengths)), dtype=np.int64)
    first = 0
    for entry, length in zip(entries, lengths, strict=True):
        if entry.start or entry.sampling is None:
            raise ValueError(
                f"Sequence {entry.sequence_id} came in parts; an encoder sees it whole."
            )
        last = first + length
        token_ids[first:last] = entry.token_ids
        positions[first:last] = np.arange(length)
        if (second := entry.sampling.second_segment) is not None:
            segments[first + second : last] = 1
        first = last
    step = EncoderStep(torch.from_numpy(positions), torch.from_numpy(segments), lengths)
    return torch.from_numpy(token_ids), step
