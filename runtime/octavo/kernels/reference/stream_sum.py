"""Sum of the residual stream and what is pending, into memory of the caller's."""

from __future__ import annotations

import torch


def sum_stream(residual: torch.Tensor, pending: torch.Tensor | None, out: torch.Tensor) -> None:
    """`out = residual + pending`, all `[rows, hidden]`; `pending` is None where nothing is."""
    if pending is None:
        out.copy_(residual)
    else:
        torch.add(residual, pending, out=out)
