"""Compared kernels: a GPU's, each call of which is compared with the reference's on the same arguments.

What serving passes is compared, at the strides, alignments and sizes that it has there.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.attention.decode_schedule import DecodeWorkspace
from octavo.kernels.reference import device as reference

# What is no call, or has no counterpart in the reference.
_OWN_ALONE = {"make_decode_workspace", "max_fused_rows", "schedule_decode"}
# Two of the last bits of a row's largest value; of float32 what the order of a long sum makes.
_TOLERANCE = {
    torch.float32: 1e-4,
    torch.bfloat16: 2.0**-6,
    torch.float8_e4m3fn: 2.0**-2,
}
_SMALL = 1e-6
# Of any value: what float32 leaves of a difference of logits.
_LOST = 1e-5
# Larger ones are weights, which no kernel changes; a cache of keys and values has five axes.
_LARGE_BYTES = 1 << 26
_CACHE_AXES = 5


@dataclass
class Comparison:
    """How often each kernel was called, and what of it was not the reference's."""

    calls: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def compared_kernels(comparison: Comparison) -> Any:
    """Of the shape of `DeviceKernels`."""
    wrapped = {name: _compared(name, comparison) for name in gpu.__all__ if name not in _OWN_ALONE}
    own = {name: getattr(gpu, name) for name in _OWN_ALONE}
    return SimpleNamespace(**own, **wrapped)


def _compared(name: str, comparison: Comparison) -> Callable[..., Any]:
    own, theirs = getattr(gpu, name), getattr(reference, name)

    def call(*args: Any, **named: Any) -> Any:
        copies: dict[int, torch.Tensor] = {}
        other_args, other_named = _copied(args, copies), _copied(named, copies)
        returned = own(*args, **named)
        if name in ("route_to_experts", "group_by_expert"):  # tiles of as many rows as suit the GPU
            other_named["block_rows"] = returned.block_rows
        expected = _results(name, theirs(*other_args, **other_named), other_args, other_named)
        comparison.calls[name] = comparison.calls.get(name, 0) + 1
        for (path, got), (_, exact) in zip(
            _results(name, returned, args, named), expected, strict=True
        ):
            told = None if got is exact else difference(got, exact)
            if told is not None:
                comparison.differences.append(f"{path}: {told}")
        return returned

    return call


def _copied(value: Any, copies: dict[int, torch.Tensor]) -> Any:
    """What a call may change is copied, once where it is passed twice."""
    match value:
        case torch.Tensor() if value.nbytes > _LARGE_BYTES and value.dim() != _CACHE_AXES:
            return value
        case torch.Tensor():
            return copies.setdefault(id(value), value.clone())
        case dict():
            return {name: _copied(item, copies) for name, item in value.items()}
        case tuple():
            return tuple(_copied(item, copies) for item in value)
    if not dataclasses.is_dataclass(value):
        return value
    other = copy.copy(value)
    for part in dataclasses.fields(value):
        object.__setattr__(other, part.name, _copied(getattr(value, part.name), copies))
    return other


def _results(name: str, returned: Any, args: Any, named: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """What a call returns and may have changed."""
    match name:
        case "route_to_experts" | "group_by_expert":
            order = returned.order[_places(returned)]
            returned = dataclasses.replace(returned, order=order)
        case "experts_gate_up":
            returned = returned[_places(args[2])]
        case "experts_down":
            choices = args[2].order[_places(args[2])].long()
            returned = returned.double().sum(dim=0)[choices].to(args[0].dtype)
    yield from _tensors(returned, name)
    yield from _tensors(args, f"{name}'s argument")
    yield from _tensors(named, f"{name}'s argument")


def _places(routing: Any) -> torch.Tensor:
    """Those that are in a tile; others are left unwritten."""
    tiles = routing.tiles.tolist()
    return torch.cat([torch.arange(first, end) for expert, first, end in tiles if expert >= 0])


def _tensors(value: Any, path: str) -> Iterator[tuple[str, torch.Tensor]]:
    match value:
        case torch.Tensor():
            yield path, value
        case dict():
            for name, item in value.items():
                yield from _tensors(item, f"{path} {name}")
        case tuple():
            for index, item in enumerate(value):
                yield from _tensors(item, f"{path} {index}")
        # What a kernel keeps for itself is not the reference's.
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, DecodeWorkspace):
            for part in dataclasses.fields(value):
                yield from _tensors(getattr(value, part.name), f"{path}.{part.name}")


def difference(got: torch.Tensor, expected: torch.Tensor) -> str | None:
    """In words, where it is more than the order of sums and the place of a rounding make."""
    if got.shape != expected.shape:
        return f"shape {tuple(got.shape)} in place of {tuple(expected.shape)}"
    if not got.is_floating_point():
        count = int((got != expected).sum())
        return f"{count} of {got.numel()} integers differ" if count else None
    if got.numel() == 0:
        return None
    ours, exact = got.double(), expected.double()
    is_number = exact.isfinite()
    if not torch.equal(ours.isfinite(), is_number):
        return "infinite or no number in other places"
    off = torch.where(is_number, ours - exact, 0.0).abs()
    largest = torch.where(is_number, exact, 0.0).abs().amax(dim=-1, keepdim=True)
    error = float(((off - _LOST) / largest.clamp_min(_SMALL)).max())
    return f"off by {error:.2g} of a row's largest" if error > _TOLERANCE[got.dtype] else None
