"""Cuts of products with packed weights: by dtype and rows; one table serves all chips.

Every entry is compiled for its chip by the tests without spilling; none has been timed on a GPU yet. With
few rows the words are all there is to read: tiles are low, and the inner axis is split over more programs
until every multiprocessor has some. With many rows the sums of a group lie in registers beside those of all,
which bounds the tile.

What is compiled for a number of rows is compiled for the next power of two, as in
`octavo.kernels.gpu.tuning.experts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_MAX_PARTS = 16
# Programs that a multiprocessor should have at work: each keeps some kilobytes of words under way.
_RESIDENTS = 2
# Multiprocessors may idle by so much before the inner axis is split: parts have to be summed.
_BUSY_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class PackedConfig:
    """Tile of one program.

    Args:
        rows: Of the input.
        columns: Of the result.
        group: Row tiles that are worked on side by side.
    """

    rows: int
    columns: int
    num_warps: int
    num_stages: int
    group: int = 8


# Of 128 rows and columns, sums of groups of 32 and their total would spill.
_CONFIGS = (
    PackedConfig(16, 64, 4, 4),
    PackedConfig(32, 64, 4, 4),
    PackedConfig(64, 64, 4, 3),
    PackedConfig(128, 64, 8, 3),
)
# Adds up the parts of some columns of a row.
ADD_COLUMNS = 1024


def packed_config(dtype: torch.dtype, num_rows: int) -> PackedConfig:
    """For activations `[num_rows, depth]`."""
    if dtype == torch.float32:  # runs, but is not cut for speed
        return PackedConfig(16, 32, 4, 1)
    return next((one for one in _CONFIGS if num_rows <= one.rows), _CONFIGS[-1])


def num_parts(
    config: PackedConfig, num_multiprocessors: int, num_rows: int, width: int, num_blocks: int
) -> int:
    """Into how many parts the inner axis, of so many blocks, is split: a power of two."""
    rows = _rounded_up(num_rows)
    programs = -(-rows // config.rows) * -(-width // config.columns)
    return _parts(config, num_multiprocessors, programs, num_blocks)


def num_expert_parts(
    config: PackedConfig,
    num_multiprocessors: int,
    num_tokens: int,
    per_token: int,
    experts_shape: tuple[int, int],
    num_blocks: int,
) -> int:
    """As `num_parts`, of a product of tokens with the experts that they chose.

    Args:
        experts_shape: `(experts, width)`.
    """
    num_experts, width = experts_shape
    tokens = _rounded_up(num_tokens)
    # Experts that tokens get who choose evenly and without regard to each other.
    chosen = num_experts * (1 - (1 - per_token / num_experts) ** tokens)
    tiles = max(chosen, tokens * per_token / config.rows)
    return _parts(config, num_multiprocessors, tiles * -(-width // config.columns), num_blocks)


def _parts(config: PackedConfig, num_multiprocessors: int, programs: float, num_blocks: int) -> int:
    wanted = _BUSY_SHARE * num_multiprocessors * _RESIDENTS
    parts = 1
    # Each part keeps enough steps that its loads overlap.
    while (
        parts < _MAX_PARTS
        and programs * parts < wanted
        and num_blocks >= 2 * parts * config.num_stages
    ):
        parts *= 2
    return parts


def _rounded_up(num_rows: int) -> int:
    return 1 << max(num_rows - 1, 0).bit_length()
