"""Step of the engine, as layers see it: which rows attend to which blocks, and which are padding.

It is handed to every product too, because what a product adds for a row (an adapter) is known by the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from octavo.kernels.adapter_tiles import AdapterTiles
from octavo.kernels.attention_options import AttentionOptions
from octavo.layers.norm import HeadNorm


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """Constant per layer.

    Args:
        head_norm: Normalises queries and keys per head before rotation (Qwen3), or None.
        rotary: Which of the model's rotary tables turns them; see `ModelSpec.rotary`.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    options: AttentionOptions
    head_norm: HeadNorm | None = None
    rotary: int = 0


class AdapterRows(NamedTuple):
    """Rows of a step that have the same adapter: neighbours, or `[count]` int64 of them."""

    adapter_id: int
    rows: slice | torch.Tensor


Blocks = Callable[[torch.Tensor], Iterator[torch.Tensor | None]]
"""Runs a model's blocks over the residual stream `[tokens, hidden]`, which they overwrite; after each, what
is pending."""


class Repeats(Protocol):
    """Runs blocks as they are, or does again what they did in earlier steps of the same form."""

    def __call__(
        self, residual: torch.Tensor, blocks: Blocks, *, is_watched: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The stream, until the next step, and what is pending of the last block.

        Args:
            is_watched: The blocks keep hidden states: their steps are others.
        """
        ...


class Step(Protocol):
    """How queries meet keys differs by device: a step brings that with it."""

    @property
    def num_live(self) -> torch.Tensor | None:
        """`[1]` int32 on the device: rows from there on are padding; None: none is."""
        ...

    @property
    def positions(self) -> torch.Tensor:
        """Each token's place in its sequence, int64; what lies behind the step's tokens means nothing."""
        ...

    @property
    def adapters(self) -> Sequence[AdapterRows]:
        """Rows that have one, where the host multiplies; each is in one group at most."""
        ...

    @property
    def adapter_tiles(self) -> AdapterTiles | None:
        """Rows that have one, where the device looks them up; None: no row has, or the host multiplies."""
        ...

    @property
    def rows(self) -> torch.Tensor | None:
        """`[count]` int64: rows whose last hidden states are read, so that no other needs one; None: all."""
        ...

    @property
    def repeats(self) -> Repeats | None:
        """None: the step is like no other."""
        ...

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        """Normalises and rotates queries and keys, stores keys and values, and attends.

        Args:
            heads: `[tokens, num_heads + 2 * num_kv_heads, head_dim]`: queries, keys, values; overwritten.
            cache: The layer's, `[num_blocks, block_size, 2, num_kv_heads, head_dim]`.

        Returns `[tokens, num_heads * head_dim]`.
        """
        ...
