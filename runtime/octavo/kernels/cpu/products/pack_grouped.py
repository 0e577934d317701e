"""Packing of grouped weights. Lays codes, scales and zeros that a checkpoint holds out in panels; no number
changes.

One pass on all threads: the codes may lie in either order of their two dimensions, since some formats store a
weight's transpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import TeamKernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import run_on_team
from octavo.kernels.cpu.products.weight_memory import allocate
from octavo.kernels.cpu.products.weight_panels import (
    PANEL,
    STEP,
    Grouping,
    PanelFormat,
    Panels,
    fits,
)
from octavo.kernels.fp4 import exponents_of
from octavo.kernels.reference.weight_only import QuantizedWeight

_ADDED_8 = 0x0808080808080808
"""To eight bytes of which four bits count each, by exclusive or."""


def pack_grouped(weight: QuantizedWeight, panel_format: PanelFormat) -> Panels:
    """Packs a weight whose codes the format holds: -8 to 7 for int4, any int8, any float8 of e4m3, any four
    bits for mxfp4, whose scales are powers of two.

    Raises ValueError when it does not fit; see `fits`. Groups are whole steps.
    """
    width, depth = weight.codes.shape
    grouping = Grouping(weight.group, weight.zeros is not None)
    if not fits(width, depth, panel_format) or weight.group % STEP:
        raise ValueError(
            f"A weight of shape [{width}, {depth}] in groups of {weight.group} fits no "
            f"{panel_format.value} panels."
        )
    panels = -(-width // PANEL)
    panel_bytes = panel_format.panel_bytes(depth, grouping)
    data = allocate(panels * panel_bytes).view(panels, panel_bytes)
    is_mxfp4 = panel_format is PanelFormat.GROUPED_MXFP4
    scales = exponents_of(weight.scales) if is_mxfp4 else weight.scales.contiguous()
    zeros = None if weight.zeros is None else weight.zeros.bfloat16().contiguous()
    run_on_team(
        _KERNELS[panel_format],
        weight.codes.data_ptr(),
        data.data_ptr(),
        scales.data_ptr(),
        0 if zeros is None else zeros.data_ptr(),
        width,
        depth,
        panel_bytes,
        weight.group,
        panel_format.header_bytes(grouping),
        *weight.codes.stride(),
        panel_format.scale_bytes,
        _ADDED_8 if panel_format is PanelFormat.GROUPED_INT4 else 0,
    )
    return Panels(panel_format, data, None, width, depth, grouping)


@part
def _headers(job: Any, panel: int) -> None:
    """Scales and zeros of a panel, before each group's codes."""
    data, words, shorts = v.int8_at(job[2]), v.int32_at(job[2]), v.int16_at(job[2])
    # Bits are moved, not numbers.
    exponents, scales, zeros = v.int8_at(job[3]), v.int32_at(job[3]), v.int16_at(job[4])
    width, groups, scale_bytes = job[5], job[6] // job[8], job[12]
    stride = job[7] // groups
    for o in range(min(PANEL, width - panel * PANEL)):
        feature = panel * PANEL + o
        for group in range(groups):
            at, number = panel * job[7] + group * stride, feature * groups + group
            if scale_bytes == PANEL:
                data[at + o] = exponents[number]
            else:
                words[at // 4 + o] = scales[number]
            if job[4] != 0:
                shorts[(at + scale_bytes) // 2 + o] = zeros[number]


@part
def _step_at(job: Any, panel: int, step: int, step_bytes: int) -> Any:
    """Where a step of a panel begins."""
    group_steps = job[8] // STEP
    stride = job[7] // (job[6] // job[8])
    first = panel * job[7] + step // group_steps * stride
    return first + job[9] + step % group_steps * step_bytes


@part
def _eight(codes: Any, first: int, column: int) -> Any:
    """The codes of a step's inputs, one in each byte."""
    found = np.int64(0)
    for k in range(STEP):
        found |= (np.int64(codes[first + k * column]) & 0xFF) << (8 * k)
    return found


@part
def _four_nibbles(eight: Any) -> Any:
    """The first of each pair's codes, as nibbles."""
    nibbles = eight & 0xF
    for pair in range(1, STEP // 2):
        nibbles |= (eight >> (12 * pair)) & (0xF << (4 * pair))
    return nibbles


@team_kernel
def _nibbles(address: int) -> None:
    job = v.int64_at(address)
    codes, data = v.int8_at(job[1]), v.int32_at(job[2])
    width, depth, row, column = job[5], job[6], job[10], job[11]
    panel = v.count_up(job, 0)
    while panel * PANEL < width:
        _headers(job, panel)
        for step in range(depth // STEP):
            at = _step_at(job, panel, step, PANEL * STEP // 2) // 4
            for o in range(min(PANEL, width - panel * PANEL)):
                eight = _eight(codes, (panel * PANEL + o) * row + step * STEP * column, column)
                eight ^= job[13]
                data[at + o] = _four_nibbles(eight) | _four_nibbles(eight >> 8) << 16
        panel = v.count_up(job, 0)


@team_kernel
def _bytes(address: int) -> None:
    job = v.int64_at(address)
    codes, data = v.int8_at(job[1]), v.int16_at(job[2])
    width, depth, row, column = job[5], job[6], job[10], job[11]
    panel = v.count_up(job, 0)
    while panel * PANEL < width:
        _headers(job, panel)
        for step in range(depth // STEP):
            at = _step_at(job, panel, step, PANEL * STEP) // 2
            for o in range(min(PANEL, width - panel * PANEL)):
                eight = _eight(codes, (panel * PANEL + o) * row + step * STEP * column, column)
                place = at + o % 16 // 4 * 8 + o // 16 * 4 + o % 4
                for pair in range(STEP // 2):
                    data[place + pair * 32] = eight >> (16 * pair)
        panel = v.count_up(job, 0)


_KERNELS: dict[PanelFormat, TeamKernel] = {
    PanelFormat.GROUPED_INT4: _nibbles,
    PanelFormat.GROUPED_INT8: _bytes,
    PanelFormat.GROUPED_FLOAT8: _bytes,
    PanelFormat.GROUPED_MXFP4: _nibbles,
}
