"""Loaded model: what a start reads, a model and what guesses for it, which sleep and wake together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from octavo.models.base import CausalLM

D = TypeVar("D")
"""What makes a drafter of a device, with an empty KV cache; it has the drafter's weights."""


@dataclass(frozen=True, slots=True)
class Loaded(Generic[D]):
    """
    Args:
        drafting: None where the engine guesses by itself, or nobody does.
    """

    model: CausalLM
    drafting: D | None = None
