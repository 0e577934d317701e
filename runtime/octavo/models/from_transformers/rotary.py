"""Rotary embeddings of transformers' modules: how far they know positions, at frequencies that stay.

Keys in a cache are turned already, so that no frequency may depend on how long a sequence has become.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from octavo.layers.rotary import RopeConfig, RopeScaling, context_length

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

_KINDS = "rope_type"
"""Of such a module: its forward asks for the longest sequence where this is `dynamic`."""
_HELD = "held"
_ORIGINAL = "original_max_position_embeddings"
_STRETCHING = (RopeScaling.LINEAR, RopeScaling.YARN, RopeScaling.LLAMA3)


def hold_frequencies(model: torch.nn.Module) -> None:
    """Dynamic embeddings keep the frequencies that they have up to `max_position_embeddings`."""
    for module in model.modules():
        kinds: Any = getattr(module, _KINDS, None)
        if isinstance(kinds, str):
            setattr(module, _KINDS, _held(kinds))
        elif isinstance(kinds, dict):  # by kinds of layers
            setattr(module, _KINDS, {layers: _held(kind) for layers, kind in kinds.items()})


def rope_types(model: torch.nn.Module) -> frozenset[str]:
    """Of the modules that turn every layer alike."""
    kinds = (getattr(module, _KINDS, None) for module in model.modules())
    return frozenset(kind for kind in kinds if isinstance(kind, str))


def _held(kind: str) -> str:
    return _HELD if "dynamic" in kind else kind


def context_of(config: PreTrainedConfig, positions: int, rope_types: frozenset[str]) -> int:
    """Tokens that the modules know positions for.

    Args:
        positions: The config's `max_position_embeddings`. Where kinds of layers are scaled apart, it says
            how far they reach together.
        rope_types: Of the modules: what config.json says, they may not read.
    """
    found: Any = getattr(config, "rope_parameters", None)
    for rope in _rope_parameters(found):
        if rope.get("rope_type") == RopeScaling.LONGROPE.value:
            original = rope.get(_ORIGINAL) or getattr(config, _ORIGINAL, None) or positions
            return min(positions, int(original))
    if not isinstance(found, Mapping) or found.get("rope_type") not in rope_types:
        return positions
    scaling = next((one for one in _STRETCHING if one.value == found.get("rope_type")), None)
    if scaling is None:
        return positions
    original = int(found.get(_ORIGINAL) or positions)
    factor = float(found.get("factor") or positions / original)
    stretch = RopeConfig(scaling=scaling, factor=factor, original_max_position=original)
    return context_length(stretch, positions)


def _rope_parameters(found: Any) -> Iterator[Mapping[str, Any]]:
    """One object, or one of each kind of layer."""
    if isinstance(found, Mapping):
        yield found
        for value in found.values():
            yield from _rope_parameters(value)
