"""Model runner for CPUs. Runs one step of the model over the paged KV cache: a batch in, logits of the
sampled rows out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from octavo.layers.pooling import pool
from octavo.loading.pooling import PoolingMode
from octavo.models.base import CausalLM
from octavo.worker.batch import ScheduledSequence
from octavo.worker.cpu.step_inputs import StepInputs
from octavo.worker.cpu.step_memory import StepMemory

# 16 MiB in float32.
_SCORES_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class StepResult:
    """Of the rows that are sampled, in the batch's order; None where a step has none.

    `hidden` `[samples, hidden]` is the last hidden state, or what pooling makes of all of a prompt's,
    `logits` `[samples, vocab]` what follows from it;
    `scored` `[scored, hidden]` is the last hidden state of `inputs.scored`.
    """

    inputs: StepInputs
    hidden: torch.Tensor | None
    logits: torch.Tensor | None
    scored: torch.Tensor | None = None


class Runner(Protocol):
    """Runs steps of one model, here or on several ranks."""

    @property
    def max_model_len(self) -> int: ...

    def run(self, batch: Sequence[ScheduledSequence]) -> StepResult:
        """Runs all tokens of the batch and scores the rows with `sampling`."""
        ...

    def copy_blocks(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copies KV blocks `(source, target)` in all layers, before the next step; no target is a source of
        the same call."""
        ...

    def score(self, hidden: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Of `StepResult.scored`, scores `[rows, vocab]` of some rows at a time: all at once they would be as
        many as a prompt has tokens times the vocabulary. Until the end, and before the next step."""
        ...


class ModelRunner:
    """A model with its KV cache, or a rank's part of both.

    Args:
        max_model_len: Positions that can occur.
        pooling: Of prompts, all of which are whole then; None: the last token is all that is wanted.
    """

    def __init__(
        self,
        model: CausalLM,
        memory: StepMemory,
        *,
        max_model_len: int,
        pooling: PoolingMode | None = None,
    ) -> None:
        self.model = model
        self.memory = memory
        self.max_model_len = max_model_len
        self._pooling = pooling

    @torch.inference_mode()
    def run(self, batch: Sequence[ScheduledSequence]) -> StepResult:
        inputs, step = self.memory.prepare(batch, reads_all=self._pooling is not None)
        residual = self.model.forward(inputs.token_ids, self.memory.caches, step)
        scored = None
        if inputs.scored is not None:
            scored = self.model.normalise(residual.index_select(0, inputs.scored.rows))
        if not inputs.sampling:
            return StepResult(inputs, None, None, scored)
        if self._pooling is not None:
            hidden = self._pooled(self.model.normalise(residual), inputs, batch, self._pooling)
            return StepResult(inputs, hidden, self.model.logits(hidden), scored)
        if inputs.sampled_rows is not None:
            residual = residual.index_select(0, inputs.sampled_rows)
        hidden = self.model.normalise(residual)
        return StepResult(inputs, hidden, self.model.logits(hidden), scored)

    def _pooled(
        self,
        hidden: torch.Tensor,
        inputs: StepInputs,
        batch: Sequence[ScheduledSequence],
        mode: PoolingMode,
    ) -> torch.Tensor:
        last_rows = inputs.sampled_rows
        if last_rows is None:
            last_rows = torch.arange(len(batch))
        lengths = [len(entry.token_ids) for entry in batch]
        ends = [row + 1 for row in last_rows.tolist()]
        parts = [hidden[end - count : end] for end, count in zip(ends, lengths, strict=True)]
        return pool(torch.cat(parts), lengths, mode)

    @torch.inference_mode()
    def copy_blocks(self, copies: Sequence[tuple[int, int]]) -> None:
        self.memory.copy_blocks(copies)

    @torch.inference_mode()
    def score(self, hidden: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        at_once = max(1, _SCORES_AT_ONCE // self.model.spec.vocab_size)
        for start in range(0, len(hidden), at_once):
            part = slice(start, start + at_once)
            yield part, self.model.logits(hidden[part])
