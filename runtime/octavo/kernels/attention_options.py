"""Attention options. What varies between models in the scores of attention."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """Constant per layer.

    Args:
        scale: Multiplies the scores, usually `head_dim ** -0.5`.
        sliding_window: A query at position p sees the keys `(p - window, p]`, in an encoder
            `(p - window, p + window)`; None: all up to p, in an encoder all.
        softcap: Scores become `cap * tanh(score / cap)` before masking (Gemma 2); None: they stay.
    """

    scale: float
    sliding_window: int | None = None
    softcap: float | None = None
