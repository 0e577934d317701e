"""Logits of a router, spread over experts in the ways that go wrong."""

from __future__ import annotations

import torch


def router_logits(tokens: int, experts: int, kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(tokens * 31 + experts)
    logits = torch.randn(tokens, experts, generator=generator) * 3
    if kind == "ties":
        return (logits / 3).round()
    if kind == "one takes all":
        logits[:, experts // 2] += 50
    if kind == "half get none":
        logits[:, : experts // 2] -= 50
    return logits
