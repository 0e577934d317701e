"""Sampling tensors: what rows ask of sampling, as kernels take it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.kernels.reference.sampling.sample import SamplingTensors

CPU = torch.device("cpu")


def tensors(
    rows: Sequence[tuple[float, int, float, float]],
    device: torch.device | None = None,
    first_seed: int = 0,
) -> SamplingTensors:
    """From (temperature, top_k, top_p, min_p) of each row, all with seeds of their own."""
    temperature, top_k, top_p, min_p = zip(*rows, strict=True)
    seeds = torch.arange(first_seed, first_seed + len(rows), dtype=torch.int64)
    return SamplingTensors(
        torch.tensor(temperature, dtype=torch.float32, device=device),
        torch.tensor(top_k, dtype=torch.int32, device=device),
        torch.tensor(top_p, dtype=torch.float32, device=device),
        torch.tensor(min_p, dtype=torch.float32, device=device),
        (seeds * 0x9E3779B97F4A7C15).to(device),
        (seeds * 3 + (seeds << 33)).to(device),
        has_filters=any(row[1:] != (0, 1.0, 0.0) for row in rows),
    )
