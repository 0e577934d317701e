"""Configuration of encoders that are stacks of blocks: what is the same in all of their families."""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from octavo.layers.mlp import PlainActivation
from octavo.layers.projection import Projection
from octavo.models.base import EncoderConfig
from octavo.models.building import ModelBuilder
from octavo.models.score_head import ScoreActivation, ScoreHead


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedEncoderConfig(EncoderConfig):
    """
    Args:
        unused: Parameters that a checkpoint may hold and no embedding needs, whole names.
        activation: Between a block's products.
        score: Of the head; None: the model embeds.
    """

    unused: ClassVar[re.Pattern[str]]

    norm_eps: float
    activation: PlainActivation
    score: ScoreActivation | None

    @abstractmethod
    def attention(self, layer: int) -> tuple[Projection, Projection]:
        """Queries, keys and values; output."""

    @abstractmethod
    def mlp(self, layer: int) -> tuple[Projection, Projection]:
        """What comes first, gated or not; down."""

    @abstractmethod
    def head(self) -> tuple[Projection, Projection]:
        """The first product of a score's head; the classifier."""

    def projections(self) -> list[Projection]:
        layers = range(self.spec.num_layers)
        blocks = [one for layer in layers for one in (*self.attention(layer), *self.mlp(layer))]
        return blocks if self.score is None else [*blocks, *self.head()]

    def score_head(self, load: ModelBuilder) -> ScoreHead | None:
        """None where the model embeds."""
        if self.score is None:
            return None
        dense, out = self.head()
        return ScoreHead(load.linear(dense), load.linear(out), self.score)

    def ignores(self, name: str) -> bool:
        return self.unused.fullmatch(name) is not None
