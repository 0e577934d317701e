"""Cuts of the expert kernels. How the kernels of a mixture of experts are cut: by chip, dtype, and rows that
an expert gets.

Every entry is compiled for its chip by the tests without spilling; none has been timed on a GPU yet. With
few rows the experts' weights are all there is to read: tiles are low, and many programs keep copies in
flight. With many rows the products are bound by arithmetic: tiles are as large as registers hold, so that
Hopper multiplies by warpgroups.

What is compiled for a number of tokens is compiled for the next power of two: steps of 1, 2, 4, … tokens
run every form that serving will, so that no request waits for a compiler.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.gpu.tuning.chips import ChipFamily, family_of
from octavo.kernels.gpu.tuning.streaming import TileConfig

# Columns of a token that one program of `combine_experts` sums.
COMBINE_TILE = TileConfig(1, 1024, 4)

_MAX_DOWN_PARTS = 8
# Multiprocessors may idle by so much before the inner axis is split: parts have to be summed.
_BUSY_SHARE = 0.75

_MAX_EXPERTS = 512
_ROUTE_VALUES = 4096


@dataclass(frozen=True, slots=True)
class ProductTile:
    """Tile of one program of a grouped product.

    Args:
        columns: Of the output; `experts_gate_up` computes as many of the gate and of up.
        inner: Of the summed axis, a step.
    """

    columns: int
    inner: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True, slots=True)
class ExpertsConfig:
    """Tiles of both products, over `block_rows` rows of one expert.

    Args:
        group: Row tiles that are worked on side by side, so that their rows and the columns' weights are
            read again from the second-level cache and not from memory.
        down_residents: Programs of the second product that a multiprocessor should have at work.
    """

    block_rows: int
    gate_up: ProductTile
    down: ProductTile
    group: int = 8
    down_residents: int = 2


_HOPPER = (
    ExpertsConfig(16, ProductTile(32, 128, 4, 4), ProductTile(64, 128, 4, 4)),
    ExpertsConfig(32, ProductTile(32, 128, 4, 4), ProductTile(64, 128, 4, 4)),
    ExpertsConfig(64, ProductTile(64, 64, 4, 4), ProductTile(128, 64, 4, 4)),
    ExpertsConfig(128, ProductTile(128, 64, 8, 4), ProductTile(256, 64, 8, 4), 16, 1),
)
_AMPERE = (
    ExpertsConfig(16, ProductTile(32, 128, 4, 4), ProductTile(64, 128, 4, 4)),
    ExpertsConfig(32, ProductTile(32, 128, 4, 4), ProductTile(64, 128, 4, 4)),
    ExpertsConfig(64, ProductTile(64, 64, 4, 4), ProductTile(128, 64, 4, 4)),
    ExpertsConfig(128, ProductTile(64, 64, 8, 3), ProductTile(128, 64, 8, 3), 16, 1),
)
_TABLES = {
    ChipFamily.AMPERE: _AMPERE,
    # None of Ampere's takes more shared memory than these have.
    ChipFamily.COMPACT: _AMPERE,
    ChipFamily.HOPPER: _HOPPER,
}
# Float32 runs, but is not cut for speed.
_FLOAT32 = ProductTile(32, 16, 8, 2)


def experts_config(capability: int, dtype: torch.dtype, block_rows: int) -> ExpertsConfig:
    """For a chip (80, 86, 89, 90, 120), the weights' dtype, and tiles of `block_rows` rows."""
    if dtype == torch.float32:
        return ExpertsConfig(block_rows, _FLOAT32, _FLOAT32)
    table = _TABLES[family_of(capability)]
    return next(config for config in table if config.block_rows == block_rows)


def block_rows_for(num_tokens: int, num_experts: int, per_token: int) -> int:
    """Rows of a tile that most experts' rows fit into, when all get about as many.

    An expert with more is cut into several tiles, each of which reads its weights.
    """
    average = _rounded_up(num_tokens) * per_token / num_experts
    # Half as many again: rows do not fall evenly.
    return next((rows for rows in (16, 32, 64) if 1.5 * average <= rows), 128)


def down_parts(
    config: ExpertsConfig,
    num_multiprocessors: int,
    num_tokens: int,
    per_token: int,
    weight_shape: tuple[int, int, int],
) -> int:
    """Into how many parts `experts_down` splits its inner axis, a power of two.

    Args:
        weight_shape: `(experts, hidden, width)`.
    """
    num_experts, hidden, width = weight_shape
    tile, tokens = config.down, _rounded_up(num_tokens)
    # Experts that tokens get who choose evenly and without regard to each other.
    chosen = num_experts * (1 - (1 - per_token / num_experts) ** tokens)
    tiles = max(chosen, tokens * per_token / config.block_rows)
    programs = tiles * -(-hidden // tile.columns)
    wanted = _BUSY_SHARE * num_multiprocessors * config.down_residents
    parts = 1
    # Each part keeps enough steps that its copies overlap.
    while (
        parts < _MAX_DOWN_PARTS
        and programs * parts < wanted
        and width >= 2 * parts * tile.inner * tile.num_stages
    ):
        parts *= 2
    return parts


def _rounded_up(num_tokens: int) -> int:
    return 1 << max(num_tokens - 1, 0).bit_length()


@dataclass(frozen=True, slots=True)
class RouteTile:
    """Tokens and experts (a power of two) of one program of `route_to_experts`."""

    rows: int
    columns: int
    num_warps: int


def route_tile(num_tokens: int, num_experts: int) -> RouteTile:
    """One program takes all the rows of a decode step where it can: that saves a launch.

    Raises:
        ValueError: More experts than a program can hold.
    """
    if num_experts > _MAX_EXPERTS:
        raise ValueError(
            f"a layer has {num_experts} experts, above the most that have a kernel, {_MAX_EXPERTS}"
        )
    columns = max(1 << (num_experts - 1).bit_length(), 8)
    if num_tokens <= 16:
        return RouteTile(16, columns, 4)
    return RouteTile(min(_ROUTE_VALUES // columns, 256), columns, 8)
