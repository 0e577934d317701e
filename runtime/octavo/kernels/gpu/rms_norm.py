"""Root-mean-square normalisation (Zhang and Sennrich, 2019), alone and fused with the residual's sum.

One read and one write per value: a program holds its rows in registers between the two. Sums are
float32 whatever the dtype.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.streaming import TileConfig, norm_tile


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis; a new tensor.

    Raises:
        ValueError: The last axis is wider than 16,384.
    """
    rows = x.reshape(-1, x.shape[-1])
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if rows.shape[0]:
        tile = norm_tile(rows.shape[1])
        _rms_norm[(triton.cdiv(rows.shape[0], tile.rows),)](
            rows, weight, out, rows.shape[0], rows.stride(0), eps, **_options(tile, rows.shape[1])
        )
    return out


def add_rms_norm(
    residual: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """Adds `delta` to `residual` in place, rounded to its dtype, and returns the norm of the sum.

    Raises:
        ValueError: The last axis is wider than 16,384, or `residual` is not contiguous.
    """
    if not residual.is_contiguous():
        raise ValueError(
            f"residual has strides {residual.stride()}; it is updated in place and must be contiguous"
        )
    width = residual.shape[-1]
    rows = residual.view(-1, width)
    out = torch.empty_like(residual)
    if rows.shape[0]:
        delta_rows = delta.reshape(-1, width)
        tile = norm_tile(width)
        _add_rms_norm[(triton.cdiv(rows.shape[0], tile.rows),)](
            rows,
            delta_rows,
            weight,
            out,
            rows.shape[0],
            delta_rows.stride(0),
            eps,
            **_options(tile, width),
        )
    return out


def _options(tile: TileConfig, width: int) -> dict[str, object]:
    return {
        "WIDTH": width,
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        **launch_options(tile.num_warps, 1),
    }


@triton.jit(do_not_specialize=["num_rows"])
def _rms_norm(
    x,
    weight,
    out,
    num_rows,
    x_stride,
    eps,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (row < num_rows) & (column < WIDTH)
    values = tl.load(x + row * x_stride + column, inside, other=0.0).to(tl.float32)
    normed = _normalise(values, weight, column, eps, WIDTH)
    tl.store(out + row * WIDTH + column, normed.to(out.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["num_rows"])
def _add_rms_norm(
    residual,
    delta,
    weight,
    out,
    num_rows,
    delta_stride,
    eps,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (row < num_rows) & (column < WIDTH)
    old = tl.load(residual + row * WIDTH + column, inside, other=0.0).to(tl.float32)
    added = tl.load(delta + row * delta_stride + column, inside, other=0.0).to(tl.float32)
    # What is normalised is what the next layer reads back: the rounded sum.
    total = (old + added).to(residual.dtype.element_ty)
    tl.store(residual + row * WIDTH + column, total, inside)
    normed = _normalise(total.to(tl.float32), weight, column, eps, WIDTH)
    tl.store(out + row * WIDTH + column, normed.to(out.dtype.element_ty), inside)


@triton.jit
def _normalise(values, weight, column, eps, WIDTH: tl.constexpr):
    """float32 `[ROWS, COLUMNS]`, zero beyond WIDTH, normalised and weighted."""
    scale = tl.rsqrt(tl.sum(values * values, axis=1, keep_dims=True) / WIDTH + eps)
    return values * scale * tl.load(weight + column, column < WIDTH, other=0.0).to(tl.float32)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    for width in (128, 4096, 16384):
        tile = norm_tile(width)
        constants = {"WIDTH": width, "ROWS": tile.rows, "COLUMNS": tile.columns}
        scalars = {"num_rows": "i32", "x_stride": "i32", "delta_stride": "i32", "eps": "fp32"}
        pointers = dict.fromkeys(("x", "residual", "delta", "weight", "out"), "*bf16")
        for name, kernel in (("norm", _rms_norm), ("add-norm", _add_rms_norm)):
            yield ShippedConfiguration(
                name=f"{name}-{width}",
                kernel=kernel,
                arguments={**pointers, **scalars},
                constants=constants,
                num_warps=tile.num_warps,
                num_stages=1,
                divisible=frozenset({"x_stride", "delta_stride"}),
            )
