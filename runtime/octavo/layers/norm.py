"""Norms of rows: root mean square (Zhang and Sennrich, 2019) and layer norm (Ba et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.protocols.layers import Kernels


class Norm(Protocol):
    """Over the last axis of `[rows, hidden]`."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """A new tensor."""
        ...

    def add(self, residual: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """Adds `delta` to `residual` in place and returns the norm of the sum."""
        ...


class RMSNorm:
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis."""

    __slots__ = ("_kernels", "eps", "weight")

    def __init__(self, weight: torch.Tensor, eps: float, kernels: Kernels) -> None:
        self.weight = weight
        self.eps = eps
        self._kernels = kernels

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._kernels.rms_norm(x, self.weight, self.eps)

    def add(self, residual: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        return self._kernels.add_rms_norm(residual, delta, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """`(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    eps: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def add(self, residual: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        return self(residual.add_(delta))


@dataclass(frozen=True, slots=True)
class HeadNorm:
    """RMS norms of queries and keys per head, before rotation (Qwen3).

    `weight` is `[query_heads + kv_heads, head_dim]` float32, the queries' first: some are stored less one.
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
        return cls(torch.cat(rows).float(), eps)

    def __call__(self, heads: torch.Tensor) -> torch.Tensor:
        """Of `[tokens, query_heads + kv_heads, head_dim]`, a new tensor."""
        return torch.rms_norm(heads, self.weight.shape[-1:], None, self.eps).mul_(self.weight)
