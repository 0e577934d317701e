"""Chooses tokens on the device, behind the model on the same stream, without the host looking."""

from __future__ import annotations

import numpy as np
import torch

from octavo.kernels.aligned_rows import aligned_rows, padded_width
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.reference.sampling.penalties import IN_PROMPT, MAX_COUNT
from octavo.kernels.reference.sampling.sample import SamplingTensors
from octavo.sampling.state import SamplingState
from octavo.worker.gpu.readback import DeviceSamples
from octavo.worker.gpu.state_rows import StateRows
from octavo.worker.gpu.step_packing import DrawSections, PenaltySections, Samples


class PackedView:
    """Sections of a packed step as tensors of their type; views, no copies."""

    def __init__(self, packed: torch.Tensor) -> None:
        self._packed = packed

    def int32(self, first: int, count: int) -> torch.Tensor:
        return self._packed[first : first + count]

    def float32(self, first: int, count: int) -> torch.Tensor:
        return self.int32(first, count).view(torch.float32)

    def int64(self, first: int, count: int) -> torch.Tensor:
        return self.int32(first, 2 * count).view(torch.int64)


class DeviceSampler:
    """Holds the token counts of sequences with penalties: `[rows, vocab]` int16, made when needed."""

    def __init__(self, kernels: DeviceKernels, vocab_size: int, device: torch.device) -> None:
        self._kernels = kernels
        self._vocab_size = vocab_size
        self._device = device
        self._counts = torch.zeros((0, padded_width(vocab_size)), dtype=torch.int16, device=device)

    def sample(
        self,
        hidden: torch.Tensor,
        logits: torch.Tensor,
        samples: Samples,
        view: PackedView,
        rows: StateRows,
    ) -> DeviceSamples:
        """One token for each sample.

        Args:
            hidden: `[samples, width]`.
            logits: `[samples, vocab]`, in any float type; unchanged.
        """
        count = logits.shape[0]
        scores, penalties = logits, samples.penalties
        if penalties is not None:
            self._begin_counts(samples.states, penalties, rows.num_count_rows)
            scores = aligned_rows(
                count, self._vocab_size, dtype=torch.float32, device=self._device
            ).copy_(logits)
            self._kernels.apply_penalties(
                scores,
                self._counts[:, : self._vocab_size],
                view.float32(penalties.presence, count),
                view.float32(penalties.frequency, count),
                view.float32(penalties.repetition, count),
                view.int32(penalties.count_rows, count),
            )
        if samples.draw is None:
            tokens = scores.argmax(dim=-1)
        else:
            tokens = self._kernels.sample(scores, _tensors(samples.draw, view, count))
        if penalties is not None:
            self._kernels.count_tokens(
                self._counts, view.int32(penalties.count_rows, count), tokens
            )
        return DeviceSamples(
            tokens,
            None
            if not samples.with_logprobs
            else self._kernels.top_logprobs(
                *_subset(samples.with_logprobs, samples.logprob_rows, view, logits, tokens),
                _most_logprobs(samples, self._vocab_size),
            ),
            None
            if not samples.pooled
            else torch.nn.functional.normalize(
                _subset(samples.pooled, samples.pooled_rows, view, hidden, tokens)[0].float(),
                dim=-1,
            ),
        )

    def _begin_counts(
        self, states: list[SamplingState], penalties: PenaltySections, num_rows: int
    ) -> None:
        if self._counts.shape[0] < num_rows:
            grown = self._counts.new_zeros((2 * num_rows, self._counts.shape[1]))
            grown[: self._counts.shape[0]] = self._counts
            self._counts = grown
        for index, row in penalties.started:
            counts = torch.from_numpy(_initial_counts(states[index], self._vocab_size))
            if self._device.type == "cuda":
                counts = counts.pin_memory()
            self._counts[row, : self._vocab_size].copy_(counts, non_blocking=True)


def _initial_counts(state: SamplingState, vocab_size: int) -> np.ndarray:
    """`[vocab]` int16: how often the output holds each token; the sign bit marks the prompt's."""
    output = np.asarray(state.output_token_ids, dtype=np.int64)
    counts = np.bincount(output, minlength=vocab_size).clip(max=MAX_COUNT).astype(np.int16)
    counts[np.asarray(state.prompt_token_ids, dtype=np.int64)] |= np.int16(IN_PROMPT)
    return counts


def _tensors(draw: DrawSections, view: PackedView, count: int) -> SamplingTensors:
    return SamplingTensors(
        temperature=view.float32(draw.temperature, count),
        top_k=view.int32(draw.top_k, count),
        top_p=view.float32(draw.top_p, count),
        min_p=view.float32(draw.min_p, count),
        seed=view.int64(draw.seed, count),
        position=view.int64(draw.position, count),
        has_filters=draw.has_filters,
    )


def _subset(
    chosen: list[int], section: int, view: PackedView, rows: torch.Tensor, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    if len(chosen) == tokens.shape[0]:
        return rows, tokens
    index = view.int64(section, len(chosen))
    subset = aligned_rows(len(chosen), rows.shape[1], dtype=rows.dtype, device=rows.device)
    return torch.index_select(rows, 0, index, out=subset), tokens.index_select(0, index)


def _most_logprobs(samples: Samples, vocab_size: int) -> int:
    most = max(samples.states[i].params.logprobs or 0 for i in samples.with_logprobs)
    return min(most, vocab_size)
