"""Grouping of chosen experts: a choice that was made elsewhere, as lists for grouped products.

Sorting and looking up, no kernel of our own: a dozen short launches, whose shapes follow from the number of
tokens alone. Nothing waits for the device, so that CUDA graphs may hold them.
"""

from __future__ import annotations

import torch

from octavo.kernels.reference.experts.route import ExpertRouting, num_tiles


def group_by_expert(
    experts: torch.Tensor,
    shares: torch.Tensor,
    num_experts: int,
    num_live: torch.Tensor | None = None,
    block_rows: int | None = None,
) -> ExpertRouting:
    """Everybody's work by expert.

    Args:
        experts: `[tokens, per_token]` int64; a choice of none of the `num_experts` gets no place, and its
            share becomes 0.
        shares: `[tokens, per_token]`, of any floating-point dtype.
        num_live: `[1]` int32 where `experts` are: rows from there on are padding; None: none is.
        block_rows: A power of two; None: 16.
    """
    block_rows = block_rows or 16
    device, (tokens, per_token) = experts.device, experts.shape
    is_one = (experts >= 0) & (experts < num_experts)
    if num_live is not None:
        is_one &= (torch.arange(tokens, device=device) < num_live).unsqueeze(-1)
    ordered, order = torch.where(is_one, experts, num_experts).view(-1).sort(stable=True)
    everyone = torch.arange(num_experts + 1, device=device)
    first = torch.searchsorted(ordered, everyone)  # place of each, and behind the last one's
    count = first.diff()
    own_tiles = (count + block_rows - 1) // block_rows
    last_tiles = own_tiles.cumsum(0)
    tile = torch.arange(num_tiles(tokens * per_token, num_experts, block_rows), device=device)
    expert = torch.searchsorted(last_tiles, tile, right=True)
    is_used = expert < num_experts
    named = expert.clamp(max=num_experts - 1)
    begin = first[named] + (tile - last_tiles[named] + own_tiles[named]) * block_rows
    end = torch.minimum(begin + block_rows, first[named + 1])
    tiles = torch.stack(
        (
            torch.where(is_used, expert, -1),
            torch.where(is_used, begin, 0),
            torch.where(is_used, end, 0),
        ),
        dim=1,
    )
    return ExpertRouting(
        shares=torch.where(is_one, shares.float(), 0.0),
        order=order.to(torch.int32),
        tiles=tiles.to(torch.int32),
        block_rows=block_rows,
    )
