"""Model runner for CPUs. Runs one step of the model over the paged KV cache: a batch in, logits of the
sampled rows out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from octavo.kernels.attention_plan import AttentionPlan
from octavo.kernels.numba_setup import has_matrix_units
from octavo.kernels.paged_attention import as_bytes
from octavo.kernels.select import has_cpu_kernels
from octavo.layers.pooling import pool
from octavo.layers.rotary import RotaryTable
from octavo.layers.step import Step
from octavo.layers.torch_attention import TorchAttentionStep
from octavo.loading.pooling import PoolingMode
from octavo.models.base import CausalLM
from octavo.worker.batch import ScheduledSequence
from octavo.worker.cpu.step_inputs import KernelRows, StepInputBuilder, StepInputs

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
        num_ranks: That share the model.
        num_blocks: Of the KV cache, each `block_size` tokens.
        max_model_len: Positions that can occur.
        max_num_batched_tokens: Tokens of one step.
        dtype: Of the activations.
        cache_dtype: Of keys and values in the cache.
        pooling: Of prompts, all of which are whole then; None: the last token is all that is wanted.
    """

    def __init__(
        self,
        model: CausalLM,
        *,
        num_blocks: int,
        max_model_len: int,
        block_size: int,
        max_num_batched_tokens: int,
        device: torch.device,
        dtype: torch.dtype,
        cache_dtype: torch.dtype,
        num_ranks: int = 1,
        pooling: PoolingMode | None = None,
    ) -> None:
        spec = model.spec.on_rank(num_ranks)
        self.model = model
        self._pooling = pooling
        self.block_size = block_size
        self.num_blocks = num_blocks
        self.max_model_len = max_model_len
        block = (block_size, 2, spec.num_kv_heads, spec.head_dim)
        self._caches = [
            _zeros((num_blocks, *block), cache_dtype, device) for _ in range(spec.num_layers)
        ]
        self._workspace = torch.empty((1, *block), dtype=cache_dtype, device=device)
        self._rotary = tuple(
            RotaryTable(rope, spec.head_dim, max_model_len, dtype=dtype, device=device)
            for rope in spec.rotary
        )
        self._rotary_tables = tuple(rotary.table for rotary in self._rotary)
        self._builder = StepInputBuilder(
            max_tokens=max_num_batched_tokens,
            block_size=block_size,
            dtype=dtype,
            device=device,
            windows=sorted({window for window in spec.windows if window is not None}),
            has_kernels=_has_cpu_attention(device, dtype, cache_dtype, spec.head_dim),
            # Torch's attention has them for prompts in bfloat16, and our kernel has not.
            plans_chunks=dtype is torch.bfloat16 and has_matrix_units(),
        )

    @torch.inference_mode()
    def run(self, batch: Sequence[ScheduledSequence]) -> StepResult:
        inputs = self._builder.build(batch)
        step = self._attention_step(inputs)
        residual = self.model.forward(inputs.token_ids, self._caches, step)
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
        if not copies:
            return
        sources, targets = (
            torch.tensor(side, dtype=torch.int64, device=self._workspace.device)
            for side in zip(*copies, strict=True)
        )
        for cache in map(as_bytes, self._caches):
            cache.index_copy_(0, targets, cache.index_select(0, sources))

    @torch.inference_mode()
    def score(self, hidden: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        at_once = max(1, _SCORES_AT_ONCE // self.model.spec.vocab_size)
        for start in range(0, len(hidden), at_once):
            part = slice(start, start + at_once)
            yield part, self.model.logits(hidden[part])

    def _attention_step(self, inputs: StepInputs) -> Step:
        rows = inputs.attention
        plan = rows.chunks if isinstance(rows, KernelRows) else rows
        blocks = plan.workspace_blocks if isinstance(plan, AttentionPlan) else 0
        workspace = self._workspace_of(blocks)
        if not isinstance(rows, KernelRows):
            rotations = tuple((one, *one.at(inputs.positions)) for one in self._rotary)
            return TorchAttentionStep(rows, inputs.positions, rotations, workspace, inputs.adapters)
        from octavo.layers.cpu_attention import CpuAttentionStep  # needs numba

        return CpuAttentionStep(
            inputs.positions,
            inputs.slots,
            self._rotary_tables,
            rows.decodes,
            rows.chunks,
            workspace,
            inputs.adapters,
        )

    def _workspace_of(self, blocks: int) -> torch.Tensor:
        if self._workspace.shape[0] < blocks:
            # Doubled, so that growing contexts reallocate a few times and not at every block.
            size = (max(blocks, 2 * self._workspace.shape[0]), *self._workspace.shape[1:])
            self._workspace = self._workspace.new_empty(size)
        return self._workspace


def _has_cpu_attention(
    device: torch.device, dtype: torch.dtype, cache_dtype: torch.dtype, head_dim: int
) -> bool:
    if device.type != "cpu" or not has_cpu_kernels():
        return False
    from octavo.kernels.cpu.attention.paged_decode import supports  # needs numba

    return supports(dtype, cache_dtype, head_dim)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeroed, so that no run can depend on what the memory held before.

    On a CPU the kernel's zero pages are taken as they are touched: `torch.zeros` would write gigabytes
    at start-up, and hold them for a cache that may stay nearly empty. They are huge ones where kernels read
    the cache in place: a token's heads lie a small page apart, so that each key would be looked up anew.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    if has_cpu_kernels():
        from octavo.kernels.cpu.products.weight_memory import allocate  # needs numba

        return allocate(size).view(dtype).view(shape)
    return torch.from_numpy(np.zeros(size, dtype=np.uint8)).view(dtype).view(shape)
