"""Loading. Where a model's weights come from: safetensors files, or a seeded generator of the same shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.loading.biases import WithoutBiases
    from octavo.loading.device import OnDevice
    from octavo.loading.dummy import DummyWeights
    from octavo.loading.prefix import WithoutPrefix
    from octavo.loading.safetensors_files import SafetensorsWeights
    from octavo.loading.source import Placement, Slice, WeightSource, floating_tensors
    from octavo.loading.text_part import TextPart

__all__ = [
    "DummyWeights",
    "OnDevice",
    "Placement",
    "SafetensorsWeights",
    "Slice",
    "TextPart",
    "WeightSource",
    "WithoutBiases",
    "WithoutPrefix",
    "floating_tensors",
]

_HOMES = {
    "DummyWeights": "octavo.loading.dummy",
    "OnDevice": "octavo.loading.device",
    "Placement": "octavo.loading.source",
    "SafetensorsWeights": "octavo.loading.safetensors_files",
    "Slice": "octavo.loading.source",
    "TextPart": "octavo.loading.text_part",
    "WeightSource": "octavo.loading.source",
    "WithoutBiases": "octavo.loading.biases",
    "WithoutPrefix": "octavo.loading.prefix",
    "floating_tensors": "octavo.loading.source",
}


def __getattr__(name: str) -> Any:
    """Imports torch only for those who read tensors: a download asks which files those are."""
    if name not in _HOMES:
        raise AttributeError(f"module 'octavo.loading' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
