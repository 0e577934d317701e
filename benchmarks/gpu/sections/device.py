"""Device's own ceilings, measured before anything is held against them."""

from __future__ import annotations

import torch

from benchmarks.gpu.context import Context
from benchmarks.gpu.report import gpu_name
from benchmarks.gpu.results import SectionResult
from benchmarks.gpu.timing import device_seconds


def run(context: Context) -> SectionResult:
    """Memory bandwidth is the better of a large copy (bytes read plus bytes written) and a large sum."""
    copy, read = _bandwidths(context)
    context.emit(
        {
            "device": gpu_name() or "cpu",
            "copy_gb_per_second": round(copy / 1e9, 1),
            "read_gb_per_second": round(read / 1e9, 1),
            "bandwidth_gb_per_second": round(max(copy, read) / 1e9, 1),
            "matrix_tflops": round(_matrix_rate(context) / 1e12, 3),
        }
    )
    return context.result("shares below are of bandwidth and matrix rate as measured here")


def _bandwidths(context: Context) -> tuple[float, float]:
    size = context.scale.copy_bytes // 4
    source = torch.randn(size, device=context.device)
    target = torch.empty_like(source)
    copy = device_seconds([lambda: target.copy_(source)], context.device)
    read = device_seconds([source.sum], context.device)
    return 8 * size / copy, 4 * size / read


def _matrix_rate(context: Context) -> float:
    """Operations per second of a square product of random numbers in the benchmark's dtype."""
    side = context.scale.matrix_side
    left, right = (
        torch.randn(side, side, device=context.device, dtype=context.dtype) for _ in range(2)
    )
    out = torch.empty_like(left)
    return 2.0 * side**3 / device_seconds([lambda: torch.mm(left, right, out=out)], context.device)
