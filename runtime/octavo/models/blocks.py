"""Blocks that decoders are stacked from: pre-norm, sandwich and parallel residual.

Each takes the residual stream, what is pending of the block before it, the layer's KV cache and the step, and
returns what is pending now (`octavo.models.stream`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from octavo.kernels.protocols.layers import Kernels
from octavo.layers.attention import Attention
from octavo.layers.linear import Linear, Lookup
from octavo.layers.mlp import FeedForward
from octavo.layers.norm import Norm
from octavo.layers.step import Step
from octavo.models.hidden_states import FixedStates, HiddenStates
from octavo.models.spec import ModelSpec
from octavo.models.stream import (
    FusedSteps,
    PlainSteps,
    Reduce,
    Steps,
    normalised,
    unchanged,
    whole,
)


class Block(Protocol):
    def __call__(
        self,
        residual: torch.Tensor,
        pending: torch.Tensor | None,
        cache: torch.Tensor,
        step: Step,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """Adds what is pending and all of this block but its last sum to `residual`, in place.

        Args:
            residual: `[tokens, hidden]`.
            pending: `[tokens, hidden]`, or None where nothing is.
            rows: `[count]` int64, those of the result that are read; None: all. What others hold then means
                nothing. Keys and values are stored of every row.

        Returns what is left to be added, or None.
        """
        ...


class PreNormBlock:
    """`x += attention(norm(x))`, then `x += mlp(norm(x))` (Llama)."""

    __slots__ = ("attention", "fused", "steps")

    def __init__(
        self,
        attention_norm: Norm,
        attention: Attention,
        mlp_norm: Norm,
        mlp: FeedForward,
        kernels: Kernels,
        reduce: Reduce | None = None,
    ) -> None:
        self.attention = attention
        self.steps = PlainSteps(attention_norm, attention, mlp_norm, mlp, reduce)
        self.fused = FusedSteps.of(self.steps, kernels)

    def __call__(
        self,
        residual: torch.Tensor,
        pending: torch.Tensor | None,
        cache: torch.Tensor,
        step: Step,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        steps: Steps = self.steps
        is_plain = step.adapter_tiles is None
        if self.fused is not None and is_plain and residual.shape[0] <= self.fused.max_rows:
            steps = self.fused
        heads = steps.into_attention(residual, pending, step)
        attended = self.attention.attend(heads, cache, step)
        if rows is not None:
            self._finish(attended, residual, rows, step)
            return None
        pending = steps.out_of_attention(attended, residual, step)
        return steps.feed_forward(residual, pending, step)

    def _finish(
        self, attended: torch.Tensor, residual: torch.Tensor, rows: torch.Tensor, step: Step
    ) -> None:
        """What follows attention, for these rows of `residual`, in place."""
        if not rows.numel():
            return
        some = residual.index_select(0, rows)
        pending = self.steps.out_of_attention(attended.index_select(0, rows), some, step)
        residual.index_copy_(0, rows, some.add_(self.steps.feed_forward(some, pending, step)))


@dataclass(frozen=True, slots=True)
class SandwichBlock:
    """A pre-norm block that also normalises what attention and feed-forward add (Gemma 2).

    Args:
        attention_norms, mlp_norms: The one before and the one after.
    """

    attention_norms: tuple[Norm, Norm]
    attention: Attention
    mlp_norms: tuple[Norm, Norm]
    mlp: FeedForward
    reduce: Reduce | None = None

    def __call__(
        self,
        residual: torch.Tensor,
        pending: torch.Tensor | None,
        cache: torch.Tensor,
        step: Step,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        before, after = self.attention_norms
        partial = self.attention(normalised(before, residual, pending), cache, step)
        pending = after(whole(partial, self.reduce))
        before, after = self.mlp_norms
        partial = self.mlp(normalised(before, residual, pending), step)
        return after(whole(partial, self.reduce))


@dataclass(frozen=True, slots=True)
class ParallelBlock:
    """`x += attention(norm(x)) + mlp(norm(x))`, both of the same `x` (GPT-J, GPT-NeoX, Falcon).

    Args:
        mlp_norm: None where both read the same norm.
    """

    attention_norm: Norm
    attention: Attention
    mlp_norm: Norm | None
    mlp: FeedForward
    reduce: Reduce | None = None

    def __call__(
        self,
        residual: torch.Tensor,
        pending: torch.Tensor | None,
        cache: torch.Tensor,
        step: Step,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        hidden = normalised(self.attention_norm, residual, pending)
        other = hidden if self.mlp_norm is None else self.mlp_norm(residual)
        # Both are partial where they are sharded, and one reduction makes their sum whole.
        partial = self.attention(hidden, cache, step) + self.mlp(other, step)
        return whole(partial, self.reduce)


@dataclass(frozen=True, slots=True)
class WatchedBlock:
    """A block of any kind whose input is kept.

    Args:
        place: Among the layers that are watched.
    """

    block: Block
    states: HiddenStates
    place: int

    def __call__(
        self,
        residual: torch.Tensor,
        pending: torch.Tensor | None,
        cache: torch.Tensor,
        step: Step,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        if self.states.is_kept:
            self.states.keep(self.place, residual, pending)
        return self.block(residual, pending, cache, step, rows)


class DecoderStack:
    """What decoders share: an embedding, blocks, a last norm and a head. A family adds its `forward`.

    Args:
        tables: The look-up of token embeddings, and the head, or None where the checkpoint has none.
        embedding_scale: For a family whose `forward` multiplies the embeddings by it.
        embedding_norm: For one whose `forward` normalises them; by default they stay.
        stream_scale: What the family keeps the residual stream divided by.
        logits_divisor: Of the head's scores, before they are capped.
        logits_softcap: Scores become `cap * tanh(score / cap)`; None: they stay.
    """

    __slots__ = (
        "_blocks",
        "_head",
        "_is_repeatable",
        "_logits_divisor",
        "_logits_softcap",
        "_norm",
        "_states",
        "_stream_scale",
        "embed",
        "embedding_scale",
        "normalise_embedding",
        "spec",
    )

    def __init__(
        self,
        spec: ModelSpec,
        tables: tuple[Lookup, Linear | None],
        blocks: Sequence[Block],
        norm: Norm,
        *,
        embedding_scale: float = 1.0,
        embedding_norm: Callable[[torch.Tensor], torch.Tensor] = unchanged,
        stream_scale: float = 1.0,
        logits_divisor: float = 1.0,
        logits_softcap: float | None = None,
    ) -> None:
        self.spec = spec
        self.embedding_scale = embedding_scale
        self.normalise_embedding = embedding_norm
        self.embed, self._head = tables
        self._stream_scale = stream_scale
        self._logits_divisor = logits_divisor
        self._logits_softcap = logits_softcap
        self._blocks = blocks
        self._is_repeatable = True
        self._states: HiddenStates | None = None
        self._norm = norm

    def watch(self, layers: Sequence[int], fixed: FixedStates | None = None) -> HiddenStates:
        """From now on each forward keeps what goes into these layers, each of which is named once.

        Args:
            fixed: See `HiddenStates`; with it steps are repeated as those that nobody watches.
        """
        states = HiddenStates(len(layers), self._stream_scale, fixed)
        watched = list(self._blocks)
        for place, layer in enumerate(layers):
            watched[layer] = WatchedBlock(watched[layer], states, place)
        self._blocks, self._is_repeatable, self._states = watched, fixed is not None, states
        return states

    def run_blocks(
        self, residual: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        """The stream after all blocks, `[tokens, hidden]`, of `step.rows`; `residual` is overwritten."""
        blocks = functools.partial(self._each, caches, step)
        if step.repeats is None or not self._is_repeatable:
            pending: torch.Tensor | None = None
            for made in blocks(residual):
                pending = made
        else:
            is_watched = self._states is not None and self._states.is_kept
            residual, pending = step.repeats(residual, blocks, is_watched=is_watched)
        return residual if pending is None else residual.add_(pending)

    def _each(
        self, caches: list[torch.Tensor], step: Step, residual: torch.Tensor
    ) -> Iterator[torch.Tensor | None]:
        """Runs a block at a time; what is pending after it."""
        pending: torch.Tensor | None = None
        last = len(caches) - 1
        for place, (block, cache) in enumerate(zip(self._blocks, caches, strict=True)):
            pending = block(residual, pending, cache, step, step.rows if place == last else None)
            yield pending

    def normalise(self, residual: torch.Tensor) -> torch.Tensor:
        return self._norm(residual)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        if self._head is None:
            return hidden.new_zeros(hidden.shape[0], self.spec.vocab_size)
        logits, cap = self._head(hidden), self._logits_softcap
        if self._logits_divisor != 1.0:
            logits = logits.div_(self._logits_divisor)
        return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)
