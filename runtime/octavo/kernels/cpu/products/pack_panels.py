"""Packing of weights. Lays a weight out in panels, and rounds it on the way as `reference.weight_only` does.

One pass on all threads without a copy in between: the two are what a model takes while it is loaded. In
torch's operators packing took ten times as long.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import TeamKernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import run_on_team
from octavo.kernels.cpu.products.weight_memory import allocate
from octavo.kernels.cpu.products.weight_panels import PANEL, STEP, PanelFormat, Panels, takes
from octavo.kernels.reference.weight_only import INT4_GROUP

# Added and taken away again, it leaves a float32 rounded to the nearest integer, halves to the even one.
_ROUNDER = np.float32(1.5 * 2**23)


def pack(weight: torch.Tensor, panel_format: PanelFormat) -> Panels:
    """Packs `[out_features, in_features]`, float32 or bfloat16; panels of 16 bits hold what has their dtype.

    Raises ValueError when it does not fit; see `takes`.
    """
    width, depth = weight.shape
    if not takes(weight, panel_format):
        raise ValueError(
            f"A weight of shape [{width}, {depth}] fits no {panel_format.value} panels."
        )
    weight = weight.contiguous()
    panels = -(-width // PANEL)
    panel_bytes = panel_format.panel_bytes(depth)
    data = allocate(panels * panel_bytes).view(panels, panel_bytes)
    scales = torch.zeros(panels * PANEL) if panel_format is PanelFormat.INT8 else None
    run_on_team(
        _KERNELS[weight.dtype, panel_format],
        weight.data_ptr(),
        data.data_ptr(),
        0 if scales is None else scales.data_ptr(),
        width,
        depth,
        panel_bytes,
    )
    return Panels(panel_format, data, scales, width, depth)


@part
def _code(value: Any, scale: Any, low: Any, high: Any) -> Any:
    rounded = (value / scale + _ROUNDER) - _ROUNDER
    return min(max(rounded, low), high)


@part
def _int8_panels(weight: Any, job: Any) -> None:
    data, scales = v.int8_at(job[2]), v.float32_at(job[3])
    width, depth = job[4], job[5]
    low, high = np.float32(-127), np.float32(127)
    panel = v.count_up(job, 0)
    while panel * PANEL < width:
        for o in range(PANEL):
            feature = min(panel * PANEL + o, width - 1)  # what lies beyond repeats the last one
            largest = np.float32(0)
            for k in range(feature * depth, (feature + 1) * depth):
                largest = max(largest, abs(v.scalar(weight, k)))
            scale = largest / high
            scales[panel * PANEL + o] = scale
            safe = scale if scale > np.float32(0) else np.float32(1)
            at = panel * PANEL * depth + o % 16 // 4 * 16 + o // 16 * 8 + o % 4 * 2
            for k in range(0, depth, 2):
                first = v.scalar(weight, feature * depth + k)
                second = v.scalar(weight, feature * depth + k + 1)
                data[at + PANEL * k] = np.int8(_code(first, safe, low, high))
                data[at + PANEL * k + 1] = np.int8(_code(second, safe, low, high))
        panel = v.count_up(job, 0)


@part
def _int4_group(weight: Any, at: int, data: Any, group_at: int, o: int) -> None:
    """Output feature `o` of a panel: the group of inputs at `weight[at]`."""
    largest = np.float32(0)
    for k in range(at, at + INT4_GROUP):
        value = v.scalar(weight, k)
        if abs(value) > abs(largest):
            largest = value
    bits = v.bits_of(largest * np.float32(-0.125))
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    data[group_at + 2 * o] = np.uint8(bits & 0xFF)
    data[group_at + 2 * o + 1] = np.uint8((bits >> 8) & 0xFF)
    scale = v.float32_of(bits << 16)
    safe = scale if scale != np.float32(0) else np.float32(1)
    low, high = np.float32(-8), np.float32(7)
    place = group_at + 2 * PANEL + o // 16 * 64 + o % 16 * 4
    for step in range(INT4_GROUP // STEP):
        for parity in range(2):
            word = np.int64(0)
            for pair in range(STEP // 2):
                value = v.scalar(weight, at + step * STEP + 2 * pair + parity)
                word |= (np.int64(_code(value, safe, low, high)) + 8) << (4 * pair)
            target = place + step * 128 + parity * 2
            data[target] = np.uint8(word & 0xFF)
            data[target + 1] = np.uint8(word >> 8)


@part
def _int4_panels(weight: Any, job: Any) -> None:
    data = v.uint8_at(job[2])
    width, depth, panel_bytes = job[4], job[5], job[6]
    groups = depth // INT4_GROUP
    panel = v.count_up(job, 0)
    while panel * PANEL < width:
        for o in range(PANEL):
            feature = min(panel * PANEL + o, width - 1)
            for group in range(groups):
                group_at = panel * panel_bytes + group * (panel_bytes // groups)
                _int4_group(weight, feature * depth + group * INT4_GROUP, data, group_at, o)
        panel = v.count_up(job, 0)


@team_kernel
def _bfloat16_to_bfloat16(address: int) -> None:
    job = v.int64_at(address)
    pairs, data = v.int32_at(job[1]), v.int32_at(job[2])  # a pair is moved as one number
    width, depth = job[4], job[5] // 2
    panel = v.count_up(job, 0)
    while panel * PANEL < width:
        for o in range(PANEL):
            feature = min(panel * PANEL + o, width - 1)
            for k in range(depth):
                data[(panel * depth + k) * PANEL + o] = pairs[feature * depth + k]
        panel = v.count_up(job, 0)


@team_kernel
def _float16_to_float16(address: int) -> None:
    job = v.int64_at(address)
    weight, data = v.int16_at(job[1]), v.int16_at(job[2])  # bits are moved
    width, depth = job[4], job[5]
    panel = v.count_up(job, 0)
    while panel * PANEL < width:
        for o in range(PANEL):
            feature = min(panel * PANEL + o, width - 1)
            at = panel * PANEL * depth + o // 16 * 32 + o % 16
            for k in range(0, depth, 2):
                data[at + PANEL * k] = weight[feature * depth + k]
                data[at + PANEL * k + 16] = weight[feature * depth + k + 1]
        panel = v.count_up(job, 0)


@team_kernel
def _bfloat16_to_int8(address: int) -> None:
    job = v.int64_at(address)
    _int8_panels(v.bfloat16_at(job[1]), job)


@team_kernel
def _bfloat16_to_int4(address: int) -> None:
    job = v.int64_at(address)
    _int4_panels(v.bfloat16_at(job[1]), job)


@team_kernel
def _float32_to_int8(address: int) -> None:
    job = v.int64_at(address)
    _int8_panels(v.float32_at(job[1]), job)


@team_kernel
def _float32_to_int4(address: int) -> None:
    job = v.int64_at(address)
    _int4_panels(v.float32_at(job[1]), job)


_KERNELS: dict[tuple[torch.dtype, PanelFormat], TeamKernel] = {
    (torch.bfloat16, PanelFormat.BFLOAT16): _bfloat16_to_bfloat16,
    (torch.float16, PanelFormat.FLOAT16): _float16_to_float16,
    (torch.bfloat16, PanelFormat.INT8): _bfloat16_to_int8,
    (torch.bfloat16, PanelFormat.INT4): _bfloat16_to_int4,
    (torch.float32, PanelFormat.INT8): _float32_to_int8,
    (torch.float32, PanelFormat.INT4): _float32_to_int4,
}
