"""Where a model's weights come from: safetensors files, or a seeded generator of the same shapes."""

from octavo.loading.dummy import DummyWeights
from octavo.loading.safetensors_files import SafetensorsWeights
from octavo.loading.source import WeightSource

__all__ = ["DummyWeights", "SafetensorsWeights", "WeightSource"]
