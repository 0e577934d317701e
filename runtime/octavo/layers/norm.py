"""Root-mean-square normalisation (Zhang and Sennrich, 2019)."""

from __future__ import annotations

import torch

from octavo.loading import WeightSource


class RMSNorm:
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis."""

    __slots__ = ("_eps", "_shape", "weight")

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        self.weight = weight
        self._eps = eps
        self._shape = tuple(weight.shape)

    @classmethod
    def load(cls, source: WeightSource, name: str, width: int, eps: float) -> RMSNorm:
        return cls(source.take(f"{name}.weight", (width,)), eps)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.rms_norm(x, self._shape, self.weight, self._eps)


class HeadNorm:
    """RMS norms of queries and keys per head, before rotation, in one pass (Qwen3).

    Takes and returns `[tokens, query_heads + kv_heads, head_dim]`.
    """

    __slots__ = ("_eps", "_shape", "_weight")

    def __init__(
        self,
        query_weight: torch.Tensor,
        key_weight: torch.Tensor,
        *,
        num_query_heads: int,
        num_kv_heads: int,
        eps: float,
    ) -> None:
        head_dim = query_weight.shape[0]
        self._shape = (head_dim,)
        self._eps = eps
        self._weight = torch.cat(
            [query_weight.expand(num_query_heads, -1), key_weight.expand(num_kv_heads, -1)]
        )

    def __call__(self, heads: torch.Tensor) -> torch.Tensor:
        return torch.rms_norm(heads, self._shape, None, self._eps).mul_(self._weight)
