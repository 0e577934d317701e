"""Projection: the one description of a matrix product, before there is a weight.

A family lists its projections from config.json alone. What they take in memory, how they are read, in which
form they are multiplied and how they are cut between devices all follow from the same list.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

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
    """

    names: tuple[str, ...]
    in_features: int
    out_features: tuple[int, ...]
    bias: bool = False
    shard: Shard = Shard.WHOLE
    order: HeadOrder | None = None

    @property
    def stored_widths(self) -> dict[str, int]:
        """Output features of each parameter."""
        if len(self.names) == 1:
            return {self.names[0]: self.width}
        return dict(zip(self.names, self.out_features, strict=True))

    @property
    def width(self) -> int:
        """Output features of all of them."""
        return sum(self.out_features)

    @property
    def num_weights(self) -> int:
        """Without biases."""
        return self.width * self.in_features
