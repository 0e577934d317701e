"""Samples. What a step samples: as it is packed for the device, and as it lies there afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.packed_step import PackedView
from octavo.kernels.reference.sampling.logprobs import TopLogprobs
from octavo.kernels.reference.sampling.sample import SamplingTensors
from octavo.sampling.arrays import Ints
from octavo.sampling.device.verify import PackedDrafts
from octavo.sampling.processors.base import PackedShape
from octavo.sampling.state import SamplingState


@dataclass(frozen=True, slots=True)
class DrawSections:
    """Where the parameters of the samples lie, each `[samples]`; see `SamplingTensors`.

    Args:
        has_filters: Whether any sample has a top_k, top_p or min_p.
    """

    temperature: int
    top_k: int
    top_p: int
    min_p: int
    seed: int
    position: int
    has_filters: bool

    def tensors(self, view: PackedView, samples: int) -> SamplingTensors:
        return SamplingTensors(
            temperature=view.float32(self.temperature, samples),
            top_k=view.int32(self.top_k, samples),
            top_p=view.float32(self.top_p, samples),
            min_p=view.float32(self.min_p, samples),
            seed=view.int64(self.seed, samples),
            position=view.int64(self.position, samples),
            has_filters=self.has_filters,
        )


@dataclass(frozen=True, slots=True)
class Samples:
    """The entries of a step that are sampled, in the batch's order; one with drafts has a sample for each of
    its tokens.

    Args:
        rows: `[samples]`, of their sequences' state.
        shapes: What shapes their scores, in order; of processors that no sample wants there is none.
        draw: None when all samples are greedy.
        with_logprobs: Indices of the samples whose log-probabilities are wanted.
        logprob_rows: Where they lie as int64.
        pooled: Indices of the samples whose embedding is wanted.
        pooled_rows: Where they lie as int64.
        drafts: None where no entry has any.
    """

    rows: Ints
    sequence_ids: list[int]
    states: list[SamplingState]
    shapes: list[PackedShape]
    draw: DrawSections | None
    with_logprobs: list[int]
    logprob_rows: int
    pooled: list[int]
    pooled_rows: int
    drafts: PackedDrafts | None = None


@dataclass(frozen=True, slots=True)
class DeviceSamples:
    """What a step sampled, on the device.

    Args:
        tokens: `[samples]` int64.
        peaks: `[samples]`, the largest score that the model gave; NaN where any of them is.
        logprobs: Of the samples in `Samples.with_logprobs`, or None.
        embeddings: `[pooled, hidden]` float32 of the samples in `Samples.pooled`, or None.
    """

    tokens: torch.Tensor
    peaks: torch.Tensor
    logprobs: TopLogprobs | None
    embeddings: torch.Tensor | None
