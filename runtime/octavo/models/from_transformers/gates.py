"""Gates of transformers' experts: which of Octavo's own computes what a module's function does.

A function's name says nothing of it, so it is run: on numbers that are far enough from zero to meet every
bound, it has to give what one of ours gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from octavo.kernels.expert_gate import GELU_TANH, SILU, ExpertGate
from octavo.kernels.reference.gated_activation import gated

_LIMITS: Final = ("limit", "swiglu_limit")
_ALPHAS: Final = ("alpha", "swiglu_alpha")
_ROWS, _WIDTH = 64, 32


def known_gate(module: Any, *, is_interleaved: bool) -> ExpertGate | None:
    """
    Args:
        module: Of experts, which `use_experts_implementation` decorates.
        is_interleaved: Outputs of gate and up take turns.
    """
    generator = torch.Generator().manual_seed(0)
    with unset_fake_temporarily():
        spreads = (1.0, 30.0, *(4.0 * limit for limit in _numbers(module, _LIMITS)))
        drawn = [spread * torch.randn(_ROWS, _WIDTH, generator=generator) for spread in spreads]
        both = torch.cat(drawn)
        try:
            found = module._apply_gate(_in_turns(both) if is_interleaved else both)  # noqa: SLF001
        except (
            AttributeError,
            RuntimeError,
            TypeError,
        ):  # it has parameters, which are without values
            return None
        if found.shape != (len(both), _WIDTH // 2):
            return None
        return next((gate for gate in _gates(module) if _are_alike(found, gated(both, gate))), None)


def _in_turns(both: torch.Tensor) -> torch.Tensor:
    return torch.stack(both.chunk(2, dim=-1), dim=-1).flatten(-2)


def _gates(module: Any) -> Iterator[ExpertGate]:
    """Those that it may have, by the numbers that it keeps."""
    yield SILU
    yield GELU_TANH
    for limit in _numbers(module, _LIMITS):
        for alpha in (1.0, *_numbers(module, _ALPHAS)):
            for shift in (0.0, 1.0):
                yield ExpertGate(alpha=alpha, limit=limit, shift=shift)


def _numbers(module: Any, names: tuple[str, ...]) -> list[float]:
    found = [getattr(module, name, None) for name in names]
    return [float(one) for one in found if isinstance(one, int | float) and math.isfinite(one)]


def _are_alike(found: torch.Tensor, own: torch.Tensor) -> bool:
    return torch.allclose(found.float(), own, rtol=1e-5, atol=1e-6)
