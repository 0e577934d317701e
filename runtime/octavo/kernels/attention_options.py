"""What varies between models in the scores of attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """Constant per layer.

    Args:
        scale: Multiplies the scores, usually `head_dim ** -0.5`.
        sliding_window: A query at position p sees the keys `(p - window, p]`; None: all up to p.
        softcap: Scores become `cap * tanh(score / cap)` before masking (Gemma 2); None: they stay.
        alibi_slopes: `[query_heads]` float32; adds `slope * (key position - query position)` (Press et
            al., 2022).
        key_scale, value_scale: Of an FP8 cache, which stores `value / scale`.
    """

    scale: float
    sliding_window: int | None = None
    softcap: float | None = None
    alibi_slopes: torch.Tensor | None = None
    key_scale: float = 1.0
    value_scale: float = 1.0
