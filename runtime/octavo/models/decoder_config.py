"""Configuration of decoders that are stacks of like blocks: what is the same in all of their families."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from octavo.layers.projection import Projection
from octavo.models.base import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedDecoderConfig(ModelConfig):
    """Every layer has attention and one feed-forward block; families of experts list theirs themselves.

    Args:
        norm_eps: Of all norms, added to a mean square or a variance.
    """

    norm_eps: float

    @abstractmethod
    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""

    @abstractmethod
    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """What comes first, gated or not; down."""

    def projections(self) -> list[Projection]:
        layers = range(self.spec.num_layers)
        return [one for layer in layers for one in (*self.attention(layer), *self.mlp(layer))]
