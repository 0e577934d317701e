"""Scheme: the contract of a number format for weights.

A model lists `Projection`s and knows nothing of formats; a scheme reads what the checkpoint stores for one of
them and makes the `Linear` that multiplies with it.
"""

from __future__ import annotations

from typing import Protocol

import torch

from octavo.layers.linear import Linear
from octavo.layers.projection import Projection
from octavo.loading import Placement, WeightSource


class Scheme(Protocol):
    def load(self, projection: Projection, source: WeightSource, placement: Placement) -> Linear:
        """The product, of the stored tensors. What is wrong with these is told by `source.finish`."""
        ...

    def load_head(
        self, projection: Projection, source: WeightSource, placement: Placement
    ) -> Linear:
        """The product that scores the vocabulary, with a table of its own."""
        ...

    def head(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        whole_vocab: int | None = None,
    ) -> Linear:
        """As `load_head`, with a table that is there.

        Args:
            weight: `[vocab, hidden]`, placed; a scheme may make it the only copy of a tied table.
            bias: `[vocab]`, placed.
            whole_vocab: Of the table, of which a rank may have a part; None: this is all of it.
        """
        ...

    def num_bytes(self, projection: Projection, dtype: torch.dtype) -> int:
        """What the loaded product holds in memory, its biases included.

        Args:
            dtype: Of the activations.
        """
        ...

    def head_bytes(self, projection: Projection, dtype: torch.dtype, *, is_tied: bool) -> int:
        """As `num_bytes`, of the product that `load_head` makes, or `head` of a tied table."""
        ...
