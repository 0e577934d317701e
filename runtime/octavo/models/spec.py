"""Specification of a model: what the worker must know of it, and nothing of how it computes."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from octavo.layers.rotary import RopeConfig


class Task(enum.Enum):
    """`EMBED`: the checkpoint has no head, so its hidden states are all it gives. `SCORE`: its head gives a
    pair of texts one number."""

    GENERATE = "generate"
    EMBED = "embed"
    SCORE = "score"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Sizes of tensors and of what lies between them.

    Args:
        architecture: The class that config.json names.
        hidden_size: Width of the residual stream.
        inner_size: Width of a feed-forward block between its products.
        windows: Of each layer, the sliding window in tokens; None: full attention.
        rotary: Tables that positions turn queries and keys by. A layer says which one is its own
            (`AttentionSpec.rotary`); most models have one, those with learnt positions none.
        context: Tokens that the model knows positions for, scaling included.
        default_context: Tokens of a sequence where nobody asks for more.
        stored_dtype: Of most weights in the checkpoint, such as `bfloat16`.
        shares_heads: Of ranks that share the model each has some of the heads; else all.
    """

    architecture: str
    task: Task
    vocab_size: int
    hidden_size: int
    inner_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    windows: tuple[int | None, ...]
    rotary: tuple[RopeConfig, ...]
    context: int
    default_context: int
    stored_dtype: str
    shares_heads: bool = True

    @property
    def query_width(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Of the keys; the values have the same."""
        return self.num_kv_heads * self.head_dim

    @property
    def rotary_width(self) -> int | None:
        """Channels of a head that turn, the same by every table; None: all, or there is no table."""
        (width,) = {rope.width for rope in self.rotary} or {None}
        return width

    @property
    def widest_window(self) -> int | None:
        """Tokens that a query sees at most in any layer; None when some layer sees all."""
        windows = [window for window in self.windows if window is not None]
        return max(windows) if len(windows) == self.num_layers else None

    def on_rank(self, size: int) -> ModelSpec:
        """The heads of one of `size` ranks that share the model; all else stays the model's."""
        if not self.shares_heads:
            return self
        return replace(
            self,
            num_heads=self.num_heads // size,
            num_kv_heads=max(1, self.num_kv_heads // size),
        )

    def with_layers(self, kept: Sequence[int]) -> ModelSpec:
        """The same model with these of its layers alone."""
        windows = tuple(self.windows[index] for index in kept)
        return replace(self, num_layers=len(kept), windows=windows)
