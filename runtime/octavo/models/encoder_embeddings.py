"""Embeddings of encoders: normalised, and of BERT's kin the sum of token, position and segment."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.layers.encoder_attention import EncoderStep
from octavo.layers.linear import Lookup
from octavo.layers.norm import Norm


@dataclass(frozen=True, slots=True)
class NormalisedEmbeddings:
    """`norm(token)`, `[tokens, hidden]`."""

    tokens: Lookup
    norm: Norm

    def __call__(self, token_ids: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        return self.norm(self.tokens(token_ids))


@dataclass(frozen=True, slots=True)
class SummedEmbeddings:
    """`norm(token + position + segment)`, `[tokens, hidden]`.

    Args:
        positions: `[rows of padding + context, hidden]`; None: attention turns by them.
        segments: `[segments, hidden]`.
        padding_id: Where the table of positions begins with rows of the padding token, its id; else None.
            Such models are given no segments, and take the first.
    """

    tokens: Lookup
    positions: torch.Tensor | None
    segments: torch.Tensor
    norm: Norm
    padding_id: int | None = None

    def __call__(self, token_ids: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        embedded = self.tokens(token_ids)
        embedded += self.segments[0 if self.padding_id is not None else step.segments]
        if self.positions is None:
            return self.norm(embedded)
        return self.norm.add(embedded, self.positions[self._rows(token_ids, step)])

    def _rows(self, token_ids: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        """Of the table of positions."""
        if self.padding_id is None:
            return step.positions
        # Padding in the middle of a prompt is not counted, and takes the row before the first.
        is_text = (token_ids != self.padding_id).long()
        counts = [part.cumsum(0) for part in torch.split(is_text, list(step.lengths))]
        return torch.cat(counts) * is_text + self.padding_id
