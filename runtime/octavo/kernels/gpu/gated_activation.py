"""Gate of a feed-forward block (Shazeer 2020): one half of a product activates the other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.expert_gate import ExpertGate
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.streaming import ACTIVATION_TILE


def silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up`: `[rows, 2 * width] -> [rows, width]`, the gate first."""
    return _activate(gate_up, is_gelu=False)


def gelu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """`gelu(gate) * up` with the tanh form of GELU; shapes as in `silu_and_mul`."""
    return _activate(gate_up, is_gelu=True)


def _activate(gate_up: torch.Tensor, *, is_gelu: bool) -> torch.Tensor:
    width = gate_up.shape[-1] // 2
    rows = gate_up.reshape(-1, 2 * width)
    out = torch.empty((*gate_up.shape[:-1], width), dtype=gate_up.dtype, device=gate_up.device)
    if out.numel():
        tile = ACTIVATION_TILE
        _gated_activation[(rows.shape[0], triton.cdiv(width, tile.columns))](
            rows,
            out,
            rows.stride(0),
            WIDTH=width,
            IS_GELU=is_gelu,
            COLUMNS=tile.columns,
            **launch_options(tile.num_warps, 1),
        )
    return out


@triton.jit
def _gated_activation(
    gate_up,
    out,
    row_stride,
    WIDTH: tl.constexpr,
    IS_GELU: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < WIDTH
    source = gate_up + row * row_stride + column
    gate = tl.load(source, inside, other=0.0).to(tl.float32)
    up = tl.load(source + WIDTH, inside, other=0.0).to(tl.float32)
    rounded = activated(gate, IS_GELU).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * WIDTH + column, (rounded * up).to(out.dtype.element_ty), inside)


@triton.jit
def activated(gate, IS_GELU: tl.constexpr):
    """SiLU, or the tanh form of GELU, of float32 values."""
    # The latter is a sigmoid too: (1 + tanh(u)) / 2 = sigmoid(2u), u = √(2/π)(x + 0.044715 x³).
    steep = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate) if IS_GELU else gate
    return gate * tl.sigmoid(steep)


@triton.jit
def gated(
    gate,
    up,
    IS_GELU: tl.constexpr,
    ALPHA: tl.constexpr,
    LIMIT: tl.constexpr,
    SHIFT: tl.constexpr,
):
    """Of float32 values, what `ExpertGate` says."""
    if LIMIT is not None:
        gate = tl.minimum(gate, LIMIT)
        up = tl.minimum(tl.maximum(up, -LIMIT), LIMIT)
    active = activated(gate, IS_GELU) if IS_GELU else gate * tl.sigmoid(ALPHA * gate)
    return active * (up + SHIFT)


def gate_constants(gate: ExpertGate) -> dict[str, bool | float | None]:
    """The compile-time arguments that kernels pass on to `gated`."""
    return {
        "IS_GELU": gate.is_gelu,
        "ALPHA": gate.alpha,
        "LIMIT": gate.limit,
        "SHIFT": gate.shift,
    }


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    for is_gelu in (False, True):
        yield ShippedConfiguration(
            name="gelu" if is_gelu else "silu",
            kernel=_gated_activation,
            arguments={"gate_up": "*bf16", "out": "*bf16", "row_stride": "i32"},
            constants={
                "WIDTH": 14336,
                "IS_GELU": is_gelu,
                "COLUMNS": ACTIVATION_TILE.columns,
            },
            num_warps=ACTIVATION_TILE.num_warps,
            num_stages=1,
            divisible=frozenset({"row_stride"}),
        )
