"""Narrow floats. Tensors in float32 all of whose numbers have a form of 16 bits, as those of a 16-bit
checkpoint have: read in that form and widened again, they are the same numbers for half of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

_CHUNK_ELEMENTS = 2**20
"""Looked at in one go: they stay in a cache, and the first chunk tells of most tensors that they are wide."""


def narrowed(tensor: torch.Tensor) -> torch.Tensor | None:
    """The same numbers in bfloat16 or float16; None where there is one that neither holds.

    Args:
        tensor: Float32, contiguous.
    """
    if _all(tensor, _are_bfloat16):
        return tensor.bfloat16()
    if _all(tensor, _are_float16):
        return tensor.half()
    return None


def _all(tensor: torch.Tensor, holds: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    chunks = torch.split(tensor.view(-1), _CHUNK_ELEMENTS)
    return all(bool(holds(chunk)) for chunk in chunks)


def _are_bfloat16(some: torch.Tensor) -> torch.Tensor:
    """Whose lower half is zero, whatever the upper one is."""
    return ((some.view(torch.int32) & 0xFFFF) == 0).all()


def _are_float16(some: torch.Tensor) -> torch.Tensor:
    """NaN is not among them: its bits might change."""
    return (some.half().float() == some).all()
