"""Cuts of products of float8: by rows; one table serves all chips that multiply it.

Every entry is compiled for its chip by the tests without spilling; none has been timed on a GPU yet. Rows
are rounded by programs that stream memory. Of products in groups the sums of a group lie in registers beside
those of all, as with packed weights (`octavo.kernels.gpu.tuning.packed`).
"""

from __future__ import annotations

from octavo.kernels.gpu.tuning.packed import PackedConfig
from octavo.kernels.gpu.tuning.streaming import TileConfig

# By the widest row served, ascending; a wider one is read in several tiles.
_ROW_TILES = (
    (1024, TileConfig(1, 1024, 4)),
    (2048, TileConfig(1, 2048, 8)),
    (4096, TileConfig(1, 4096, 8)),
)

# Groups of 128 inputs that a program rounds at once.
GROUPS_TOGETHER = 8
GROUPS_WARPS = 4

_PRODUCTS = (
    PackedConfig(16, 64, 4, 4),
    PackedConfig(32, 64, 4, 4),
    PackedConfig(64, 128, 4, 3),
    PackedConfig(128, 128, 8, 3),
)


def row_tile(depth: int) -> TileConfig:
    return next((tile for widest, tile in _ROW_TILES if depth <= widest), _ROW_TILES[-1][1])


def scaled_config(num_rows: int) -> PackedConfig:
    """For rows `[num_rows, depth]`."""
    return next((one for one in _PRODUCTS if num_rows <= one.rows), _PRODUCTS[-1])
