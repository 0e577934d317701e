"""Projection: the one description of a matrix product, before there is a weight.

A family lists its projections from config.json alone. What they take in memory, how they are read, in which
form they are multiplied and how they are cut between devices all follow from the same list.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import numpy as np

from octavo.layers.head_order import HeadOrder


class Shard(enum.Enum):
    """How the devices of a tensor-parallel group share a weight `[out_features, in_features]`.

    `COLUMN`: each has some of the output features, in every part alike. `ROW`: each has some of the inputs,
    and its result is a partial sum. `WHOLE`: each has all of it. (The names are Megatron's, whose weights
    are transposed.)
    """

    COLUMN = "column"
    ROW = "row"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Projection:
    """Several products of the same input side by side, which are one product.

    Args:
        names: Prefixes of their parameters, such as `model.layers.0.self_attn.q_proj`; a single one where a
            parameter holds all of them.
        out_features: Width of each of them.
        bias: Whether they have biases.
        order: Where the checkpoint keeps each output, where that is not its place in the product.
        unit: Outputs side by side that stay on one rank: a head's.
        group: What is cut, outputs or inputs, is cut between groups of so many where that leaves each rank
            some: those that share a scale.
        cut: What of the stored parameters this is; None: all of them.
        is_routed: An expert's: some rows of a step alone are multiplied by it.
    """

    names: tuple[str, ...]
    in_features: int
    out_features: tuple[int, ...]
    bias: bool = False
    shard: Shard = Shard.WHOLE
    order: HeadOrder | None = None
    unit: int = 1
    cut: Cut | None = None
    is_routed: bool = False
    group: int = 1

    @property
    def stored_widths(self) -> dict[str, int]:
        """Output features of each parameter."""
        if len(self.names) == 1:
            return {self.names[0]: self.width}
        return dict(zip(self.names, self.out_features, strict=True))

    @property
    def stored(self) -> Projection:
        """All that the checkpoint holds of it."""
        return self if self.cut is None else self.cut.whole

    @property
    def width(self) -> int:
        """Output features of all of them."""
        return sum(self.out_features)

    @property
    def num_weights(self) -> int:
        """Without biases."""
        return self.width * self.in_features

    def share(self, rank: int, size: int) -> Projection:
        """What one rank of `size` multiplies with. The first has the most where they cannot be equal."""
        if size == 1 or self.shard is Shard.WHOLE:
            return self
        if self.shard is Shard.ROW:
            inputs = self.own_inputs(rank, size)
            return replace(self, in_features=len(inputs), cut=Cut(self, inputs=inputs))
        outputs = tuple(self._share_of(width, rank, size) for width in self.out_features)
        widths = tuple(map(len, outputs))
        return replace(self, out_features=widths, order=None, cut=Cut(self, outputs=outputs))

    def own_inputs(self, rank: int, size: int) -> range:
        """Of a row-parallel product, those of one rank of `size`."""
        return self._share_of(self.in_features, rank, size)

    def _share_of(self, count: int, rank: int, size: int) -> range:
        """Of so many outputs, or inputs."""
        if self.shard is Shard.COLUMN and self.unit > 1:
            return heads_of_rank(count, self.unit, rank, size)[0]
        groups = count // self.group
        unit = self.group if count % self.group == 0 and share_of(groups, size - 1, size) else 1
        own = share_of(count // unit, rank, size)
        return range(own.start * unit, own.stop * unit)

    def stored_rows(self) -> np.ndarray | None:
        """Of each output, which one of the stored parameters' it is, `[width]` int64, these counted one after
        the other; None: they lie as here. Those of one parameter are of neighbours here."""
        if self.cut is None:
            return None if self.order is None else self.order.rows()
        return self.cut.stored_rows()


@dataclass(frozen=True, slots=True)
class Cut:
    """A rank's part of a projection.

    Args:
        whole: What the checkpoint holds.
        outputs: Of each of its parts, those that the rank has; None: all.
        inputs: Those that it has; None: all.
    """

    whole: Projection
    outputs: tuple[range, ...] | None = None
    inputs: range | None = None

    def stored_rows(self) -> np.ndarray | None:
        """See `Projection.stored_rows`."""
        rows = self.whole.stored_rows()
        if self.outputs is None:
            return rows
        first, own = 0, []
        for outputs, width in zip(self.outputs, self.whole.out_features, strict=True):
            own.append(np.arange(first + outputs.start, first + outputs.stop))
            first += width
        picked = np.concatenate(own)
        return picked if rows is None else rows[picked]


def share_of(count: int, rank: int, size: int) -> range:
    """Of `count` things in a row, those of one rank of `size`."""
    most = -(-count // size)
    return range(min(rank * most, count), min((rank + 1) * most, count))


def heads_of_rank(width: int, head_dim: int, rank: int, size: int) -> tuple[range, int]:
    """Of `width` channels those whose heads one rank of `size` has, and how many ranks have the same: key
    heads are on as many ranks as there are for each."""
    heads = width // head_dim
    if heads < size:
        first = rank * heads // size
        own, copies = range(first, first + 1), size // heads
    else:
        own, copies = share_of(heads, rank, size), 1
    return range(own.start * head_dim, own.stop * head_dim), copies
