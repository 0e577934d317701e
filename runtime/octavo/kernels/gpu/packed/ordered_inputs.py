"""Inputs in the experts' orders: rows of a mixture of experts gathered for weights whose groups lie apart
(GPTQ's act-order).

Experts differ in their orders, so each choice gets a row of its own. The product then reads rows as it reads
any: gathered within it, each number of a row would be a load of its own, once for every block of outputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.packed.expert_forms import of_expert
from octavo.kernels.reference.experts.route import ExpertRouting

_NUMBERS = 4096
"""Of a program: 32 of each thread."""
_WARPS = 4


def ordered_inputs(
    x: torch.Tensor, input_order: torch.Tensor, routing: ExpertRouting
) -> torch.Tensor:
    """Of each choice its token's row of `x`, `[choices, hidden]`, in its expert's order. Rows of choices that
    are in no tile are not written.

    Args:
        x: `[tokens, hidden]`; its last axis is contiguous.
        input_order: `[experts, hidden]` int32, contiguous.
    """
    choices, hidden = routing.order.shape[0], x.shape[1]
    out = torch.empty(choices, hidden, dtype=x.dtype, device=x.device)
    columns = _NUMBERS // routing.block_rows
    if choices:
        _ordered_inputs[(routing.tiles.shape[0], triton.cdiv(hidden, columns))](
            x,
            input_order,
            routing.order,
            routing.tiles,
            out,
            x.stride(0),
            HIDDEN=hidden,
            PER_TOKEN=routing.per_token,
            BLOCK_ROWS=routing.block_rows,
            COLUMNS=columns,
            **launch_options(_WARPS, 1),
        )
    return out


@triton.jit
def _ordered_inputs(
    x,
    input_order,
    order,
    tiles,
    out,
    x_stride,
    HIDDEN: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile's rows, one block of columns."""
    tile = tl.program_id(0)
    expert = tl.load(tiles + tile * 3)
    if expert < 0:
        return
    place = tl.load(tiles + tile * 3 + 1) + tl.arange(0, BLOCK_ROWS)
    is_own = place < tl.load(tiles + tile * 3 + 2)
    choice = tl.load(order + place, is_own, other=0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < HIDDEN
    source = tl.load(of_expert(input_order, expert, HIDDEN) + column, inside, other=0)
    is_read = is_own[:, None] & inside[None, :]
    rows = x + (choice // PER_TOKEN)[:, None] * x_stride
    values = tl.load(rows + source[None, :], is_read)
    tl.store(out + choice[:, None] * HIDDEN + column[None, :], values, is_read)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    for block_rows in (16, 128):
        yield ShippedConfiguration(
            name=str(block_rows),
            kernel=_ordered_inputs,
            arguments={
                "x": "*bf16",
                "input_order": "*i32",
                "order": "*i32",
                "tiles": "*i32",
                "out": "*bf16",
                "x_stride": "i32",
            },
            constants={
                "HIDDEN": 4096,
                "PER_TOKEN": 2,
                "BLOCK_ROWS": block_rows,
                "COLUMNS": _NUMBERS // block_rows,
            },
            num_warps=_WARPS,
            num_stages=1,
            divisible=frozenset({"x_stride"}),
            capabilities=(80, 89, 90) if block_rows == 16 else (80, 90),
            max_narrow_loads=_NUMBERS // (32 * _WARPS),
        )
