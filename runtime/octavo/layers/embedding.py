"""Token embeddings, and the product that scores the vocabulary; a model may use one matrix for both."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.config import Quantization
from octavo.kernels.aligned_rows import padded_width
from octavo.layers.linear import Linear, make_linear

Embedding = Callable[[torch.Tensor], torch.Tensor]
"""Of token ids `[tokens]` int64, their vectors `[tokens, hidden]`, in memory of their own."""


class AlignedHead:
    """Gives rows that begin at aligned addresses, whatever the vocabulary: see `octavo.kernels.aligned_rows`.

    The product itself has a whole number of tiles, too: of rows that begin at odd addresses a GPU's matrix
    units write none at their speed. The weight is copied once, into one with rows of zeros behind.

    Args:
        weight: `[vocab, hidden]`.

    Attributes:
        table: The same, in the head's own memory.
    """

    __slots__ = ("_padded", "table")

    def __init__(self, weight: torch.Tensor) -> None:
        vocab, hidden = weight.shape
        self._padded = weight.new_zeros(padded_width(vocab), hidden)
        self.table = self._padded[:vocab]
        self.table.copy_(weight)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._padded)[:, : self.table.shape[0]]


def make_head(weight: torch.Tensor, quantization: Quantization | None = None) -> Linear:
    """The product that scores the vocabulary. It has eight bits at least, as in llama.cpp's mixed formats:
    errors here are errors of the answer, and its rows may be the token embeddings too."""
    if weight.device.type != "cpu" and weight.shape[0] != padded_width(weight.shape[0]):
        return AlignedHead(weight)
    return make_linear(weight, None, None if quantization is None else Quantization.INT8)


def table_embedding(table: torch.Tensor) -> Embedding:
    """Looks up rows of `table` `[vocab, hidden]`."""
    return lambda token_ids: F.embedding(token_ids, table)


def tie(table: torch.Tensor, quantization: Quantization | None) -> tuple[Embedding, Linear]:
    """Embedding and head that share `table`.

    Where the head can give rows of its weight back, it is the only copy: it may be rounded, and so are
    the embeddings then.
    """
    head = make_head(table, quantization)
    if isinstance(head, AlignedHead):
        return table_embedding(head.table), head
    dtype = table.dtype
    panels = getattr(head, "panels", None)
    if panels is None:
        return table_embedding(table), head
    return lambda token_ids: panels.rows(token_ids, dtype), head
