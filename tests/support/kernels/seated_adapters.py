"""Adapters in seats with random matrices, for tests of the products with them, and what they add exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from octavo.kernels.adapter_seats import (
    ENTRY,
    UNIT,
    AdapterSeats,
    SeatedProduct,
    in_units,
    part_units,
)
from octavo.kernels.adapter_tiles import (
    NO_SEAT,
    AdapterTiles,
    block_rows_for,
    section_size,
    tile_section,
    tiles_of,
)

_OTHER_PARTS = 2  # of products before it


@dataclass(frozen=True)
class Case:
    """
    Args:
        matrices: By seat and part A `[rank, depth]` and B `[rank, width]`.
        seats: Of each row, on the host.
    """

    product: SeatedProduct
    tiles: AdapterTiles
    matrices: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]]
    seats: np.ndarray
    x: torch.Tensor
    out: torch.Tensor


def adapter_case(
    device: torch.device,
    dtype: torch.dtype,
    *,
    depth: int,
    widths: tuple[int, ...],
    ranks: list[tuple[int, ...]],
    seats: list[int],
    max_rank: int,
    spare_tiles: int = 0,
) -> Case:
    """
    Args:
        ranks: By seat and part, multiples of 16; 0: the adapter does not change the part.
        seats: Of each row.
        spare_tiles: That hold nothing, as in a recorded step.
    """
    generator = torch.Generator().manual_seed(depth + sum(widths) + len(seats))

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    parts = len(widths)
    units = sum(part_units(depth, width, max_rank) for width in widths)
    # What no adapter has is never read.
    memory = torch.full((len(ranks), units * UNIT), float("nan"), dtype=dtype)
    table = torch.full((len(ranks), _OTHER_PARTS + parts, ENTRY), 10**6, dtype=torch.int32)
    matrices = {}
    for seat, own in enumerate(ranks):
        place = 0
        for part, (rank, width) in enumerate(zip(own, widths, strict=True)):
            pair = numbers(rank, depth) / depth**0.5, numbers(rank, width)
            matrices[seat, part] = pair
            begins = []
            for matrix in pair:
                begins.append(place)
                memory[seat, place * UNIT :][: matrix.numel()] = matrix.flatten()
                place += in_units(matrix.numel())
            table[seat, _OTHER_PARTS + part] = torch.tensor([rank, *begins, 0])
    held = AdapterSeats(memory.to(device), table.to(device))
    product = SeatedProduct(held, _OTHER_PARTS, depth, widths, max_rank)
    owners = np.array(seats)
    count = tile_section(owners, len(seats))[1] + spare_tiles
    section = torch.from_numpy(tile_section(owners, len(seats), count)[0]).to(device)
    # As in a recorded step, behind the places there is what was there.
    room = torch.full((section_size(count, len(seats)),), 10**6, dtype=torch.int32, device=device)
    room[: len(section)] = section
    tiles = tiles_of(room, count, len(seats))
    assert tiles.block_rows == block_rows_for(len(seats))
    out = numbers(len(seats), sum(widths)).to(device)
    return Case(product, tiles, matrices, owners, numbers(len(seats), depth).to(device), out)


def assert_added(got: torch.Tensor, case: Case) -> None:
    """`got` is `case.out` and what each row's adapter adds: rounded in between, and once at the end."""
    dtype = got.dtype
    unit = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}[dtype]
    x, before = case.x.double().cpu(), case.out.double().cpu()
    for row, seat in enumerate(case.seats.tolist()):
        if seat == NO_SEAT:
            assert torch.equal(got[row].cpu(), case.out[row].cpu())
            continue
        added, size, between = [], [], []
        for part in range(len(case.product.widths)):
            down, up = (matrix.double() for matrix in case.matrices[seat, part])
            inner = x[row] @ down.T
            added.append(inner @ up)
            between.append(inner.abs() @ up.abs())
            size.append(x[row].abs() @ down.T.abs() @ up.abs())
        exact = before[row] + torch.cat(added)
        error = (got[row].double().cpu() - exact).abs()
        bound = unit * (exact.abs() + 1.01 * torch.cat(between)) + 2e-6 * torch.cat(size) + 2.0**-24
        assert (error <= bound).all(), (row, (error - bound).max())
