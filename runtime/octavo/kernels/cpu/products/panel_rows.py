"""Rows of panels: the look-up of an embedding that is tied to a head in panels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import kernel, part, team_kernel
from octavo.kernels.cpu.compiling.team import is_for_team, run_on_rows
from octavo.kernels.cpu.products.weight_panels import PANEL, PanelFormat, Panels

_SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64)"


@part
def _copied(tensors: Any, rows: Any, depth: int, panel_bytes: int) -> None:
    """Of bfloat16 panels, bfloat16. `tensors` is (panels, scales, features, out)."""
    panels, pairs = v.int32_at(tensors[0]), depth // 2
    features, out = v.int64_at(tensors[2]), v.int32_at(tensors[3])
    for r in range(rows[0], rows[1]):
        panel, place = features[r] // PANEL, features[r] % PANEL
        first = panel * (panel_bytes // 4) + place
        for pair in range(pairs):
            out[r * pairs + pair] = panels[first + pair * PANEL]


@part
def _copied_halves(tensors: Any, rows: Any, depth: int, panel_bytes: int) -> None:
    """Of float16 panels, float16. `tensors` as in `_copied`."""
    panels, features, out = v.int16_at(tensors[0]), v.int64_at(tensors[2]), v.int16_at(tensors[3])
    for r in range(rows[0], rows[1]):
        panel, place = features[r] // PANEL, features[r] % PANEL
        first = panel * (panel_bytes // 2) + place // 16 * 32 + place % 16
        for k in range(0, depth, 2):
            out[r * depth + k] = panels[first + k * PANEL]
            out[r * depth + k + 1] = panels[first + k * PANEL + 16]


@part
def _int8_pair(tensors: Any, feature: int, k: int, panel_bytes: int) -> Any:
    """Two weights of a feature, from input `k` on."""
    panel, place = feature // PANEL, feature % PANEL
    first = panel * panel_bytes + place % 16 // 4 * 16 + place // 16 * 8 + place % 4 * 2
    codes, scale = v.int8_at(tensors[0]), v.float32_at(tensors[1])[feature]
    at = first + k * PANEL
    return np.float32(codes[at]) * scale, np.float32(codes[at + 1]) * scale


@part
def _float32_rows(tensors: Any, rows: Any, depth: int, panel_bytes: int) -> None:
    """Of int8 panels, times the feature's scale."""
    features, out = v.int64_at(tensors[2]), v.float32_at(tensors[3])
    for r in range(rows[0], rows[1]):
        for k in range(0, depth, 2):
            pair = _int8_pair(tensors, features[r], k, panel_bytes)
            out[r * depth + k], out[r * depth + k + 1] = pair


@part
def _bfloat16_rows(tensors: Any, rows: Any, depth: int, panel_bytes: int) -> None:
    """As `_float32_rows`, rounded to the nearest, halves to the even one."""
    features, out = v.int64_at(tensors[2]), v.bfloat16_at(tensors[3])
    for r in range(rows[0], rows[1]):
        for k in range(0, depth, 2):
            pair = _int8_pair(tensors, features[r], k, panel_bytes)
            for i in range(2):
                bits = v.bits_of(pair[i])
                out[r * depth + k + i] = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


@kernel(_SIGNATURE)
def _copied_alone(
    panels: int, scales: int, features: int, out: int, count: int, depth: int, panel_bytes: int
) -> None:
    _copied((panels, scales, features, out), (0, count), depth, panel_bytes)


@kernel(_SIGNATURE)
def _halves_alone(
    panels: int, scales: int, features: int, out: int, count: int, depth: int, panel_bytes: int
) -> None:
    _copied_halves((panels, scales, features, out), (0, count), depth, panel_bytes)


@kernel(_SIGNATURE)
def _float32_alone(
    panels: int, scales: int, features: int, out: int, count: int, depth: int, panel_bytes: int
) -> None:
    _float32_rows((panels, scales, features, out), (0, count), depth, panel_bytes)


@kernel(_SIGNATURE)
def _bfloat16_alone(
    panels: int, scales: int, features: int, out: int, count: int, depth: int, panel_bytes: int
) -> None:
    _bfloat16_rows((panels, scales, features, out), (0, count), depth, panel_bytes)


@team_kernel
def _copied_on_team(address: int) -> None:
    """`job` is `run_on_rows`'s for (panels, scales, features, out, bytes of a panel)."""
    job = v.int64_at(address)
    first = v.count_up(job, 0) * job[2]
    while first < job[1]:
        rows = (first, min(first + job[2], job[1]))
        _copied((job[4], job[5], job[6], job[7]), rows, job[3], job[8])
        first = v.count_up(job, 0) * job[2]


@team_kernel
def _halves_on_team(address: int) -> None:
    """`job` is `run_on_rows`'s for (panels, scales, features, out, bytes of a panel)."""
    job = v.int64_at(address)
    first = v.count_up(job, 0) * job[2]
    while first < job[1]:
        rows = (first, min(first + job[2], job[1]))
        _copied_halves((job[4], job[5], job[6], job[7]), rows, job[3], job[8])
        first = v.count_up(job, 0) * job[2]


@team_kernel
def _float32_on_team(address: int) -> None:
    """`job` is `run_on_rows`'s for (panels, scales, features, out, bytes of a panel)."""
    job = v.int64_at(address)
    first = v.count_up(job, 0) * job[2]
    while first < job[1]:
        rows = (first, min(first + job[2], job[1]))
        _float32_rows((job[4], job[5], job[6], job[7]), rows, job[3], job[8])
        first = v.count_up(job, 0) * job[2]


@team_kernel
def _bfloat16_on_team(address: int) -> None:
    """`job` is `run_on_rows`'s for (panels, scales, features, out, bytes of a panel)."""
    job = v.int64_at(address)
    first = v.count_up(job, 0) * job[2]
    while first < job[1]:
        rows = (first, min(first + job[2], job[1]))
        _bfloat16_rows((job[4], job[5], job[6], job[7]), rows, job[3], job[8])
        first = v.count_up(job, 0) * job[2]


_STORED = {PanelFormat.BFLOAT16: torch.bfloat16, PanelFormat.FLOAT16: torch.float16}
"""What is looked up as it is, and widened then."""
_KERNELS = {
    (PanelFormat.BFLOAT16, torch.bfloat16): (_copied_alone, _copied_on_team),
    (PanelFormat.FLOAT16, torch.float16): (_halves_alone, _halves_on_team),
    (PanelFormat.INT8, torch.float32): (_float32_alone, _float32_on_team),
    (PanelFormat.INT8, torch.bfloat16): (_bfloat16_alone, _bfloat16_on_team),
}


def rows_of_panels(panels: Panels, features: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Weights of some output features, `[count, depth]`; `features` `[count]` is int64.

    Raises ValueError where `can_look_up` says no.
    """
    if not can_look_up(panels.format, dtype):
        raise ValueError(f"Rows of {panels.format.value} panels cannot be looked up.")
    found = _STORED.get(panels.format, dtype)
    alone, on_team = _KERNELS[panels.format, found]
    features, count, depth = features.contiguous(), features.shape[0], panels.depth
    out = torch.empty((count, depth), dtype=found)
    tensors = (
        panels.data.data_ptr(),
        0 if panels.scales is None else panels.scales.data_ptr(),
        features.data_ptr(),
        out.data_ptr(),
    )
    panel_bytes = panels.data.shape[1]
    if is_for_team(out.numel()):
        run_on_rows(on_team, count, depth, *tensors, panel_bytes)
    else:
        alone(*tensors, count, depth, panel_bytes)
    return out.to(dtype)


def can_look_up(panel_format: PanelFormat, dtype: torch.dtype) -> bool:
    if panel_format in _STORED:
        return dtype in (torch.float32, _STORED[panel_format])
    return (panel_format, dtype) in _KERNELS
