"""Attention options. What varies between models in the scores of attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, eq=False)
class AttentionOptions:
    """Constant per layer.

    Args:
        scale: Multiplies the scores, usually `head_dim ** -0.5`.
        sliding_window: A query at position p sees the keys `(p - window, p]`, in an encoder
            `(p - window, p + window)`; None: all up to p, in an encoder all.
        softcap: Scores become `cap * tanh(score / cap)` before masking (Gemma 2); None: they stay.
        slopes: Of each query head, what its scores fall by for each token between query and key (ALiBi,
            Press et al., arXiv 2108.12409), not scaled; `[query_heads]` float32, 0 or more, contiguous, on
            the device. None: they stay.
        sinks: Of each query head, a score of no key, whose weight nothing is multiplied by (gpt-oss);
            `[query_heads]` float32, contiguous, on the device. None: weights add up to 1.

    Raises `ValueError` where there are slopes and sinks: slopes are told from any place that all keys have in
    common, and beside a sink that is not the same.
    """

    scale: float
    sliding_window: int | None = None
    softcap: float | None = None
    slopes: torch.Tensor | None = None
    sinks: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.slopes is not None and self.sinks is not None:
            raise ValueError("slopes and sinks are given; attention has one of them at most")
