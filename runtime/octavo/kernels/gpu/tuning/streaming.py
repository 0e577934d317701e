"""Tile sizes of the kernels that stream memory: norms, activations, rotary embedding and sampling.

They do little arithmetic for a byte, so one table serves A100 and H100: a thread should hold 8 to 32
values in flight, and a launch over few rows should still spread over many multiprocessors.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TileConfig:
    """Tile of one program.

    Args:
        rows: Of the tile; more than one only where a row is too narrow to keep a program busy.
        columns: Of the tile, a power of two.
    """

    rows: int
    columns: int
    num_warps: int


# By the widest row served, ascending. A norm holds its whole row in registers.
_NORM_TILES = (
    (128, TileConfig(8, 128, 4)),
    (256, TileConfig(4, 256, 4)),
    (512, TileConfig(2, 512, 4)),
    (1024, TileConfig(1, 1024, 4)),
    (2048, TileConfig(1, 2048, 8)),
    (4096, TileConfig(1, 4096, 8)),
    (8192, TileConfig(1, 8192, 16)),
    (16384, TileConfig(1, 16384, 16)),
)

ACTIVATION_TILE = TileConfig(1, 1024, 4)
PENALTY_TILE = TileConfig(1, 2048, 4)
SAMPLING_SCAN_TILE = TileConfig(1, 2048, 4)
# A filtered row is narrowed to at least TARGET and at most LIST groups of 32 tokens.
SAMPLING_TARGET_GROUPS = 128
SAMPLING_LIST_GROUPS = 256
# Groups that a program reads at once.
SAMPLING_LIST_TILE = 128
LOGPROB_TILE = TileConfig(1, 2048, 8)

# Heads of one program of rope_and_cache, by the widest half head served, ascending.
_ROPE_TILES = (
    (16, TileConfig(16, 16, 2)),
    (32, TileConfig(16, 32, 4)),
    (64, TileConfig(8, 64, 4)),
    (128, TileConfig(4, 128, 4)),
    (256, TileConfig(2, 256, 4)),
)


def norm_tile(width: int) -> TileConfig:
    """Raises ValueError for rows wider than a program can hold."""
    return _first_that_holds(_NORM_TILES, width, "norm width")


def rope_tile(half_head_dim: int) -> TileConfig:
    """Raises ValueError for heads wider than a program can hold."""
    return _first_that_holds(_ROPE_TILES, half_head_dim, "half a head's width")


def _first_that_holds(
    table: tuple[tuple[int, TileConfig], ...], width: int, what: str
) -> TileConfig:
    for widest, tile in table:
        if width <= widest:
            return tile
    raise ValueError(f"{what} is {width}, above the widest that has a kernel, {table[-1][0]}")
