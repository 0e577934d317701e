"""Root-mean-square normalisation (Zhang and Sennrich, 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.kernels.protocols.layers import Kernels
from octavo.loading import WeightSource


class RMSNorm:
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis."""

    __slots__ = ("_kernels", "eps", "weight")

    def __init__(self, weight: torch.Tensor, eps: float, kernels: Kernels) -> None:
        self.weight = weight
        self.eps = eps
        self._kernels = kernels

    @classmethod
    def load(
        cls, source: WeightSource, name: str, width: int, eps: float, kernels: Kernels
    ) -> RMSNorm:
        return cls(source.take(f"{name}.weight", (width,)), eps, kernels)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._kernels.rms_norm(x, self.weight, self.eps)

    def add(self, residual: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """Adds `delta` to `residual` in place and returns the norm of the sum."""
        return self._kernels.add_rms_norm(residual, delta, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class HeadNorm:
    """RMS norms of queries and keys per head, before rotation (Qwen3).

    `weight` is `[query_heads + kv_heads, head_dim]`, the queries' first.
    """

    weight: torch.Tensor
    eps: float

    @classmethod
    def of(
        cls,
        query_weight: torch.Tensor,
        key_weight: torch.Tensor,
        *,
        num_query_heads: int,
        num_kv_heads: int,
        eps: float,
    ) -> HeadNorm:
        """From the two weights `[head_dim]`, each shared by its heads."""
        rows = [query_weight.expand(num_query_heads, -1), key_weight.expand(num_kv_heads, -1)]
        return cls(torch.cat(rows), eps)

    def __call__(self, heads: torch.Tensor) -> torch.Tensor:
        """Of `[tokens, query_heads + kv_heads, head_dim]`, a new tensor."""
        return torch.rms_norm(heads, self.weight.shape[-1:], None, self.eps).mul_(self.weight)
