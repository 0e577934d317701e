"""Token embeddings, and the product that scores the vocabulary; a model may use one matrix for both."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.config import Quantization
from octavo.layers.linear import Linear, make_head

Embedding = Callable[[torch.Tensor], torch.Tensor]
"""Of token ids `[tokens]` int64, their vectors `[tokens, hidden]`, in memory of their own."""


def table_embedding(table: torch.Tensor) -> Embedding:
    """Looks up rows of `table` `[vocab, hidden]`."""
    return lambda token_ids: F.embedding(token_ids, table)


def tie(table: torch.Tensor, quantization: Quantization | None) -> tuple[Embedding, Linear]:
    """Embedding and head that share `table`.

    Where the head can give rows of its weight back, it is the only copy: it may be rounded, and so are
    the embeddings then.
    """
    head = make_head(table, quantization)
    dtype = table.dtype
    panels = getattr(head, "panels", None)
    if panels is None:
        return table_embedding(table), head
    return lambda token_ids: panels.rows(token_ids, dtype), head
