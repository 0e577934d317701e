"""Device sampler. Chooses tokens on the device, behind the model on the same stream, without the host
looking."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.kernels.aligned_rows import aligned_rows
from octavo.kernels.packed_step import PackedView
from octavo.kernels.protocols.device import DeviceKernels
from octavo.sampling.device.samples import DeviceSamples, Samples
from octavo.sampling.processors.base import PackedShape


class DeviceSampler:
    """Samples what `SamplingRows` packed; `normalises`: embeddings are scaled to length 1."""

    def __init__(
        self,
        kernels: DeviceKernels,
        vocab_size: int,
        device: torch.device,
        *,
        normalises: bool = True,
    ) -> None:
        self._normalises = normalises
        self._kernels = kernels
        self._vocab_size = vocab_size
        self._device = device

    def sample(
        self,
        hidden: torch.Tensor,
        logits: torch.Tensor,
        samples: Samples,
        view: PackedView,
        late: Sequence[tuple[PackedShape, PackedView]] = (),
    ) -> DeviceSamples:
        """One token for each sample.

        Args:
            hidden: `[samples, width]`.
            logits: `[samples, vocab]`, in any float type; unchanged.
            late: What shapes scores behind `samples.shapes`, with the array that it was packed into.
        """
        count = logits.shape[0]
        scores = logits
        shapes = [*((shape, view) for shape in samples.shapes), *late]
        if shapes:
            scores = aligned_rows(
                count, self._vocab_size, dtype=torch.float32, device=self._device
            ).copy_(logits)
        for shape, its_view in shapes:
            shape.shape(scores, its_view)
        if samples.draw is None and scores is logits:
            peaks, tokens = logits.max(dim=-1)
        else:
            peaks = logits.amax(dim=-1)
            if samples.draw is None:
                tokens = scores.argmax(dim=-1)
            else:
                tokens = self._kernels.sample(scores, samples.draw.tensors(view, count))
        taken = tokens
        if shapes and samples.drafts is not None:
            taken = samples.drafts.taken(tokens, view)
        for shape, its_view in shapes:
            shape.take(taken, its_view)
        return DeviceSamples(
            tokens,
            peaks,
            None
            if not samples.with_logprobs
            else self._kernels.top_logprobs(
                *_subset(samples.with_logprobs, samples.logprob_rows, view, logits, tokens),
                _most_logprobs(samples, self._vocab_size),
            ),
            None
            if not samples.pooled
            else self._embeddings(
                _subset(samples.pooled, samples.pooled_rows, view, hidden, tokens)[0]
            ),
        )

    def _embeddings(self, hidden: torch.Tensor) -> torch.Tensor:
        vectors = hidden.float()
        return torch.nn.functional.normalize(vectors, dim=-1) if self._normalises else vectors


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
