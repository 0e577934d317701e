"""Combination of experts. The end of a mixture of experts: what a token's experts say, weighted by their
shares, in one pass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.experts import COMBINE_TILE


def combine_experts(parts: torch.Tensor, shares: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """As `reference.experts_combine.combine_experts`; `parts` and `shares` are contiguous."""
    tokens, per_token = shares.shape
    hidden = parts.shape[2]
    out = torch.empty(tokens, hidden, dtype=dtype, device=parts.device)
    if tokens:
        _combine[(tokens, triton.cdiv(hidden, COMBINE_TILE.columns))](
            parts,
            shares,
            out,
            HIDDEN=hidden,
            PARTS=parts.shape[0],
            PER_TOKEN=per_token,
            COLUMNS=COMBINE_TILE.columns,
            **launch_options(COMBINE_TILE.num_warps, 1),
        )
    return out


@triton.jit
def _combine(
    parts,
    shares,
    out,
    HIDDEN: tl.constexpr,
    PARTS: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < HIDDEN
    part_stride = tl.num_programs(0).to(tl.int64) * (PER_TOKEN * HIDDEN)
    total = tl.zeros([COLUMNS], tl.float32)
    for index in tl.static_range(PER_TOKEN):
        choice = token * PER_TOKEN + index
        share = tl.zeros([COLUMNS], tl.float32) + tl.load(shares + choice)
        # Of a padding row nothing was written, and NaN times 0 is NaN. A share of NaN goes through.
        is_written = inside & (share != 0.0)
        source = parts + choice * HIDDEN + column
        whole = tl.zeros([COLUMNS], tl.float32)
        for part in tl.static_range(PARTS):
            whole += tl.load(source + part * part_stride, is_written, other=0.0).to(tl.float32)
        total += share * whole
    tl.store(out + token * HIDDEN + column, total.to(out.dtype.element_ty), inside)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    for name, num_parts, per_token in (("2-of-2-parts", 2, 2), ("8", 1, 8)):
        yield ShippedConfiguration(
            name=name,
            kernel=_combine,
            arguments={
                "parts": "*bf16" if num_parts == 1 else "*fp32",
                "shares": "*fp32",
                "out": "*bf16",
            },
            constants={
                "HIDDEN": 4096,
                "PARTS": num_parts,
                "PER_TOKEN": per_token,
                "COLUMNS": COMBINE_TILE.columns,
            },
            num_warps=COMBINE_TILE.num_warps,
            num_stages=1,
        )
