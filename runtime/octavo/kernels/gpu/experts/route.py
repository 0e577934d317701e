"""Routing of a mixture of experts: top-k of the router, and a counting sort of the choices by expert.

All on the device, in one launch where one program holds all rows (decode), else two: chunks of rows are
counted, then each chunk finds its places behind those of the chunks before it. Places follow from the
logits alone; nothing races.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.experts import RouteTile, block_rows_for, route_tile
from octavo.kernels.reference.experts.route import ExpertRouting, num_tiles

# Tiles whose experts a program looks up at once.
_LISTED_TILES = 32


def route_to_experts(
    logits: torch.Tensor,
    per_token: int,
    num_live: torch.Tensor | None = None,
    block_rows: int | None = None,
    *,
    is_normalised: bool = True,
) -> ExpertRouting:
    """As `reference.experts_route.route_to_experts`.

    Raises:
        ValueError: There are more than 512 experts.
    """
    tokens, num_experts = logits.shape
    choices = tokens * per_token
    block_rows = block_rows or block_rows_for(tokens, num_experts, per_token)
    tile = route_tile(tokens, num_experts)
    chunks = triton.cdiv(tokens, tile.rows)
    device = logits.device
    routing = ExpertRouting(
        shares=torch.empty(tokens, per_token, dtype=torch.float32, device=device),
        order=torch.empty(choices, dtype=torch.int32, device=device),
        tiles=torch.empty(
            num_tiles(choices, num_experts, block_rows), 3, dtype=torch.int32, device=device
        ),
        block_rows=block_rows,
    )
    if not tokens:
        return routing
    counts = torch.empty(chunks, tile.columns, dtype=torch.int32, device=device)
    constants = _constants(tile, num_experts, per_token)
    options = launch_options(tile.num_warps, 1)
    if chunks > 1:
        _count[(chunks,)](
            logits, num_live, counts, tokens, logits.stride(0), **constants, **options
        )
    _place[(chunks,)](
        logits,
        num_live,
        counts,
        routing.shares,
        routing.order,
        routing.tiles,
        tokens,
        chunks,
        routing.tiles.shape[0],
        logits.stride(0),
        **constants,
        IS_NORMALISED=is_normalised,
        BLOCK_ROWS=block_rows,
        LISTED=_LISTED_TILES,
        IS_ONE_CHUNK=chunks == 1,
        **options,
    )
    return routing


def _constants(tile: RouteTile, num_experts: int, per_token: int) -> dict[str, int]:
    return {
        "EXPERTS": num_experts,
        "PER_TOKEN": per_token,
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
    }


@triton.jit
def _live_rows(num_live, num_tokens):
    live = num_tokens
    if num_live is not None:
        live = tl.minimum(tl.load(num_live), num_tokens)
    return live


@triton.jit
def _choose(
    logits,
    row,
    live,
    stride,
    EXPERTS: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """`[ROWS, COLUMNS]`: logits in float32, and which choice of its token each expert is, -1 for none.

    Rows from `live` on are not read and choose nobody. Values are compared as integers that order like the
    floats, so that a row of NaNs still chooses as many experts as any other: fewer would leave places
    unwritten.
    """
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (row < live)[:, None] & (column < EXPERTS)
    values = tl.load(logits + row.to(tl.int64)[:, None] * stride + column, inside, other=0.0)
    values = values.to(tl.float32) + 0.0  # both zeros alike
    bits = values.to(tl.int32, bitcast=True)
    keys = tl.maximum(tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits), -0x7FFFFFFF)
    taken = -0x7FFFFFFF - 1
    keys = tl.where(column < EXPERTS, keys, taken)
    choice = tl.full([ROWS, COLUMNS], -1, tl.int32)
    for index in range(PER_TOKEN):
        best = tl.max(keys, axis=1, keep_dims=True)
        first = tl.min(tl.where(keys == best, column, COLUMNS), axis=1, keep_dims=True)
        choice = tl.where(column == first, index, choice)
        keys = tl.where(column == first, taken, keys)
    return values, tl.where((row < live)[:, None], choice, -1)


@triton.jit(do_not_specialize=["num_tokens"])
def _count(
    logits,
    num_live,
    counts,
    num_tokens,
    stride,
    EXPERTS: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Choices of each expert among the rows of a chunk."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = _live_rows(num_live, num_tokens)
    _, choice = _choose(logits, row, live, stride, EXPERTS, PER_TOKEN, ROWS, COLUMNS)
    count = tl.sum((choice >= 0).to(tl.int32), axis=0)
    tl.store(counts + tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS), count)


@triton.jit(do_not_specialize=["num_tokens", "num_chunks", "num_tiles"])
def _place(
    logits,
    num_live,
    counts,
    shares,
    order,
    tiles,
    num_tokens,
    num_chunks,
    num_tiles,
    stride,
    EXPERTS: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    IS_NORMALISED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    LISTED: tl.constexpr,
    IS_ONE_CHUNK: tl.constexpr,
):
    """Shares and places of a chunk's choices, and this program's part of the list of tiles."""
    chunk = tl.program_id(0)
    row = chunk * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    live = _live_rows(num_live, num_tokens)
    values, choice = _choose(logits, row, live, stride, EXPERTS, PER_TOKEN, ROWS, COLUMNS)
    is_chosen = choice >= 0

    best = tl.max(tl.where(is_chosen, values, float("-inf")), axis=1, keep_dims=True)
    is_counted = is_chosen
    if not IS_NORMALISED:
        is_counted = (row < live)[:, None] & (column < EXPERTS)[None, :]
    weights = tl.where(is_counted, tl.exp(values - best), 0.0)
    # The best one's weight is 1; rows beyond the last have none.
    share = weights / tl.maximum(tl.sum(weights, axis=1, keep_dims=True), 1.0)
    target = row[:, None] * PER_TOKEN + choice
    tl.store(shares + target, share, is_chosen)
    is_padding = (row >= live) & (row < num_tokens)
    tl.store(
        shares + row[:, None] * PER_TOKEN + column[None, :],
        tl.zeros([ROWS, COLUMNS], tl.float32),
        is_padding[:, None] & (column < PER_TOKEN)[None, :],
    )

    ones = is_chosen.to(tl.int32)
    before = tl.zeros([COLUMNS], tl.int32)
    total = tl.sum(ones, axis=0)
    if not IS_ONE_CHUNK:
        total = tl.zeros([COLUMNS], tl.int32)
        for start in range(0, num_chunks, ROWS):
            other = start + tl.arange(0, ROWS)
            count = tl.load(
                counts + other[:, None] * COLUMNS + column[None, :],
                (other < num_chunks)[:, None],
                other=0,
            )
            total += tl.sum(count, axis=0)
            before += tl.sum(tl.where((other < chunk)[:, None], count, 0), axis=0)
    first = tl.cumsum(total, axis=0) - total
    place = (first + before)[None, :] + tl.cumsum(ones, axis=0) - ones
    tl.store(order + place, target, is_chosen)

    own_tiles = (total + BLOCK_ROWS - 1) // BLOCK_ROWS
    last_tiles = tl.cumsum(own_tiles, axis=0)
    # What is added to a tile's number times BLOCK_ROWS to give its first place.
    shift = first - (last_tiles - own_tiles) * BLOCK_ROWS
    for start in range(chunk * LISTED, num_tiles, num_chunks * LISTED):
        tile = start + tl.arange(0, LISTED)
        expert = tl.sum((last_tiles[None, :] <= tile[:, None]).to(tl.int32), axis=1)
        is_own = column[None, :] == expert[:, None]
        begin = tl.sum(tl.where(is_own, shift[None, :], 0), axis=1) + tile * BLOCK_ROWS
        end = tl.sum(tl.where(is_own, (first + total)[None, :], 0), axis=1)
        is_used = expert < COLUMNS
        listed = tile < num_tiles
        tl.store(tiles + tile * 3, tl.where(is_used, expert, -1), listed)
        tl.store(tiles + tile * 3 + 1, tl.where(is_used, begin, 0), listed)
        tl.store(
            tiles + tile * 3 + 2, tl.where(is_used, tl.minimum(begin + BLOCK_ROWS, end), 0), listed
        )


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    arguments = {"logits": "*bf16", "shares": "*fp32"}
    arguments |= dict.fromkeys(("num_live", "counts", "order", "tiles"), "*i32")
    arguments |= dict.fromkeys(("num_tokens", "num_chunks", "num_tiles", "stride"), "i32")
    for name, kernel, tokens, num_experts, per_token, is_normalised in (
        ("place-8-decode", _place, 16, 8, 2, True),
        ("place-8", _place, 8192, 8, 2, True),
        ("place-60", _place, 8192, 60, 4, False),
        ("place-128", _place, 8192, 128, 8, True),
        ("count-128", _count, 8192, 128, 8, True),
    ):
        tile = route_tile(tokens, num_experts)
        constants: dict[str, object] = dict(_constants(tile, num_experts, per_token))
        if kernel is _place:
            constants |= {
                "IS_NORMALISED": is_normalised,
                "BLOCK_ROWS": block_rows_for(tokens, num_experts, per_token),
                "LISTED": _LISTED_TILES,
                "IS_ONE_CHUNK": tokens <= tile.rows,
            }
        yield ShippedConfiguration(
            name=name,
            kernel=kernel,
            arguments=arguments,
            constants=constants,
            num_warps=tile.num_warps,
            num_stages=1,
            # Of a token there are as few values as there are experts.
            max_narrow_loads=16,
        )
