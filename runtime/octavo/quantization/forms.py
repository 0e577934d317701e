"""Forms of an unquantised weight: as it is, in oneDNN's layout, or in rows that begin aligned."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.aligned_rows import padded_width
from octavo.layers.linear import Lookup, PlainWeight
from octavo.layers.step import Step

# The row count that oneDNN lays the weight out for. One for decode batches is as good for 1 row and
# for 1024 (1.65 times the plain speed at 8 rows, bf16); a hint of 1 would keep the plain layout.
_PACKED_ROWS_HINT = 8


def table_lookup(table: torch.Tensor) -> Lookup:
    """Gives rows of `table` `[count, width]`."""
    return lambda indices: F.embedding(indices, table)


class PlainLinear:
    """Weight `[out_features, in_features]`, used as it is."""

    __slots__ = ("_bias", "_weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        return F.linear(x, self._weight, self._bias)

    @property
    def plain(self) -> PlainWeight:
        return PlainWeight(self._weight, self._bias)

    @property
    def lookup(self) -> Lookup:
        return table_lookup(self._weight)


class PackedLinear:
    """Weight in oneDNN's blocked layout, which `F.linear` would otherwise make anew in every call.

    CPU only. The plain weight is not kept.
    """

    __slots__ = ("_bias", "_packed", "_run")

    plain: Final = None
    lookup: Final = None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        # torch.compile's CPU backend emits these two operators; there is no public name for them.
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_ROWS_HINT)  # noqa: SLF001
        self._run = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
        self._bias = bias

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        result: torch.Tensor = self._run(x, self._packed, self._bias, "none", [], "")
        return result


class AlignedHead:
    """Gives rows that begin at aligned addresses, whatever the vocabulary: see `octavo.kernels.aligned_rows`.

    The product itself has a whole number of tiles, too: of rows that begin at odd addresses a GPU's matrix
    units write none at their speed. The weight is copied once, into one with rows of zeros behind.

    Args:
        weight: `[vocab, hidden]`.
        bias: `[vocab]`, or None.
    """

    __slots__ = ("_bias", "_padded", "_vocab")

    plain: Final = None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._vocab, hidden = weight.shape
        padded = padded_width(self._vocab)
        self._padded = weight.new_zeros(padded, hidden)
        self._padded[: self._vocab].copy_(weight)
        self._bias = None if bias is None else F.pad(bias, (0, padded - self._vocab))

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        return F.linear(x, self._padded, self._bias)[:, : self._vocab]

    @property
    def lookup(self) -> Lookup:
        return table_lookup(self._padded[: self._vocab])
