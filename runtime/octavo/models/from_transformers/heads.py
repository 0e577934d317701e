"""Heads of transformers' attention: what of a module beside its products ranks cut with them.

Some of each module's heads are a rank's where all else that it has is of one head, as a norm of `head_dim`
numbers is, or is known: sinks, and an RMS norm over all heads, for which ranks sum their squares. Whatever
else there is needs all heads on every rank.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from octavo.layers.projection import heads_of_rank
from octavo.layers.ranks import Ranks
from octavo.models.from_transformers.interface import Call

_ROWS = 5
# Of numbers in bfloat16: where the weight is multiplied after the rounding, a third are others.
_SAME = 0.98


@dataclass(frozen=True, slots=True)
class WideNorm:
    """An RMS norm over all query heads, or all key heads.

    Args:
        path: Of its module, whose only parameter is `weight`.
        width: Channels of all those heads.
        rounds_first: What is normalised has the activations' dtype before it is multiplied by the weight.
    """

    path: str
    width: int
    head_dim: int
    eps: float
    rounds_first: bool


@dataclass(frozen=True, slots=True)
class HeadParts:
    """Of all attention modules.

    Args:
        sinks: Names of their parameters, a number for each query head.
        problem: What is there that is none of these; None: nothing.
    """

    sinks: tuple[str, ...] = ()
    norms: tuple[WideNorm, ...] = ()
    problem: str | None = None


def head_parts(
    calls: Iterable[Call],
    paths: Mapping[torch.nn.Module, str],
    products: Collection[str],
) -> HeadParts:
    """
    Args:
        products: Paths of the linear modules that ranks may cut.
    """
    sinks, norms = [], []
    for call in calls:
        path, (_, num_heads, _, head_dim) = paths[call.module], call.shapes[0]
        num_kv_heads = call.shapes[1][1]
        for name, tensor in _others(call.module, path, products):
            owner, _, own = name.rpartition(".")
            shape = tuple(tensor.shape)
            if not owner and tensor is call.others.get("s_aux"):
                sinks.append(f"{path}.{name}")
            elif "." in owner or not owner:
                return HeadParts(problem=f"{path}.{name} is of all heads")
            elif shape == (head_dim,):
                continue  # every head's
            elif own == "weight" and shape in {(n * head_dim,) for n in (num_heads, num_kv_heads)}:
                norm = _known_norm(call.module.get_submodule(owner), f"{path}.{owner}", head_dim)
                if norm is None:
                    return HeadParts(problem=f"{path}.{owner} is of all heads")
                norms.append(norm)
            else:
                return HeadParts(problem=f"{path}.{name} is of all heads")
        for name, buffer in call.module.named_buffers():
            if {num_heads, num_kv_heads} & set(buffer.shape):
                return HeadParts(problem=f"{path}.{name} is of all heads")
    return HeadParts(tuple(sinks), tuple(norms))


def _others(
    module: torch.nn.Module, path: str, products: Collection[str]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters of no product."""
    for name, tensor in module.named_parameters():
        if f"{path}.{name.rpartition('.')[0]}" not in products:
            yield name, tensor


def _known_norm(module: Any, path: str, head_dim: int) -> WideNorm | None:
    """It is run, because its name says nothing of it."""
    parameters = dict(module.named_parameters())
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if set(parameters) != {"weight"} or not isinstance(eps, float):
        return None
    width = len(parameters["weight"])
    generator = torch.Generator().manual_seed(0)
    with unset_fake_temporarily(), torch.no_grad():
        x = torch.randn(_ROWS, width, generator=generator)
        x[0] *= eps**0.5  # so small that the epsilon counts
        weight = torch.randn(width, generator=generator)
        for rounds_first in (False, True):
            norm = WideNorm(path, width, head_dim, eps, rounds_first)
            whole = NormOfHeads(norm, weight, None)
            if all(
                _are_alike(module, whole, x, dtype) for dtype in (torch.float32, torch.bfloat16)
            ):
                return norm
    return None


def _are_alike(module: Any, own: NormOfHeads, x: torch.Tensor, dtype: torch.dtype) -> bool:
    weight = own.weight.to(dtype)
    kept = module._parameters["weight"]  # noqa: SLF001 (torch's own name)
    module._parameters["weight"] = torch.nn.Parameter(weight, requires_grad=False)  # noqa: SLF001
    try:
        theirs = module(x.to(dtype))
    except (AttributeError, RuntimeError, TypeError):
        return False
    finally:
        module._parameters["weight"] = kept  # noqa: SLF001
    ours = NormOfHeads(own.norm, weight, None)(x.to(dtype))
    if not isinstance(theirs, torch.Tensor) or theirs.dtype is not dtype:
        return False
    if dtype is torch.float32:
        return torch.allclose(theirs, ours, rtol=1e-5, atol=1e-6)
    return float((theirs == ours).float().mean()) > _SAME


class NormOfHeads(torch.nn.Module):
    """In place of a `WideNorm`: of the heads that a rank has, by the squares of all.

    Args:
        weight: Of the module, `[norm.width]`.
        ranks: That share the heads; None: nobody does.
    """

    def __init__(self, norm: WideNorm, weight: torch.Tensor, ranks: Ranks | None) -> None:
        super().__init__()
        self.norm = norm
        self._ranks = ranks
        copies = 1
        if ranks is not None:
            own, copies = heads_of_rank(norm.width, norm.head_dim, ranks.rank, ranks.size)
            weight = weight[own.start : own.stop].clone()
        self._share = 1.0 / (copies * norm.width)
        self.weight = torch.nn.Parameter(weight.detach(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of `[..., channels of the rank's heads]`."""
        wide = x.to(torch.float32)
        square = wide.pow(2).sum(-1, keepdim=True) * self._share
        if self._ranks is not None:
            square = self._ranks.all_reduce(square.contiguous())
        wide = wide * torch.rsqrt(square + self.norm.eps)
        if self.norm.rounds_first:
            return self.weight * wide.to(x.dtype)
        return (self.weight * wide).to(x.dtype)
