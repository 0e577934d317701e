"""Step memory: what the steps of one model on a CPU run on, be it a whole one or a head that guesses for it.

KV caches in blocks, rotary tables, and the buffers that a batch is laid out in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from octavo.kernels.attention_plan import AttentionPlan
from octavo.kernels.matrix_units import has_matrix_units
from octavo.kernels.paged_attention import as_bytes
from octavo.kernels.select import has_cpu_kernels
from octavo.layers.rotary import RotaryTable
from octavo.layers.step import Repeats, Step
from octavo.layers.torch_attention import TorchAttentionStep
from octavo.models.spec import ModelSpec
from octavo.worker.batch import ScheduledSequence
from octavo.worker.cpu.step_inputs import KernelRows, StepInputBuilder, StepInputs


class StepMemory:
    """Of one model, or of a rank's part of it.

    Args:
        spec: With the heads that are computed here.
        num_blocks: Of the KV cache, each `block_size` tokens.
        max_model_len: Positions that can occur.
        max_tokens: Of one step.
        dtype: Of the activations.
        cache_dtype: Of keys and values in the cache.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        num_blocks: int,
        max_model_len: int,
        block_size: int,
        max_tokens: int,
        device: torch.device,
        dtype: torch.dtype,
        cache_dtype: torch.dtype,
    ) -> None:
        block = (block_size, 2, spec.num_kv_heads, spec.head_dim)
        self.caches = [
            _zeros((num_blocks, *block), cache_dtype, device) for _ in range(spec.num_layers)
        ]
        self._workspace = torch.empty((1, *block), dtype=cache_dtype, device=device)
        self._rotary = tuple(
            RotaryTable(rope, spec.head_dim, max_model_len, dtype=dtype, device=device)
            for rope in spec.rotary
        )
        self._rotary_tables = tuple(rotary.table for rotary in self._rotary)
        has_kernels = _has_cpu_attention(device, dtype, cache_dtype, spec.head_dim)
        self._repeats = _repeats() if has_kernels else None
        self._builder = StepInputBuilder(
            max_tokens=max_tokens,
            block_size=block_size,
            dtype=dtype,
            device=device,
            max_blocks=-(-max_model_len // block_size),
            windows=sorted({window for window in spec.windows if window is not None}),
            has_kernels=has_kernels,
            plans_chunks=has_kernels and dtype is torch.bfloat16 and _torch_attends_to_prompts(),
        )

    def prepare(
        self, batch: Sequence[ScheduledSequence], *, reads_all: bool = False
    ) -> tuple[StepInputs, Step]:
        """The batch laid out, and what its rows attend to; valid until the next call.

        Args:
            reads_all: Every row's last hidden state is asked for, and not only what is sampled from.
        """
        inputs = self._builder.build(batch)
        return inputs, self._attention_step(inputs, None if reads_all else inputs.read_rows)

    def copy_blocks(self, copies: Sequence[tuple[int, int]]) -> None:
        """See `Runner.copy_blocks`."""
        if not copies:
            return
        sources, targets = (
            torch.tensor(side, dtype=torch.int64, device=self._workspace.device)
            for side in zip(*copies, strict=True)
        )
        for cache in map(as_bytes, self.caches):
            cache.index_copy_(0, targets, cache.index_select(0, sources))

    def _attention_step(self, inputs: StepInputs, read: torch.Tensor | None) -> Step:
        rows = inputs.attention
        plan = rows.chunks if isinstance(rows, KernelRows) else rows
        blocks = plan.workspace_blocks if isinstance(plan, AttentionPlan) else 0
        workspace = self._workspace_of(blocks)
        if not isinstance(rows, KernelRows):
            rotations = tuple((one, *one.at(inputs.positions)) for one in self._rotary)
            return TorchAttentionStep(
                rows, inputs.positions, rotations, workspace, inputs.adapters, read
            )
        from octavo.layers.cpu_attention import CpuAttentionStep  # needs numba

        return CpuAttentionStep(
            inputs.positions,
            inputs.slots,
            self._rotary_tables,
            rows.decodes,
            rows.chunks,
            workspace,
            inputs.adapters,
            read,
            self._repeats if inputs.is_repeated else None,
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


def _torch_attends_to_prompts() -> bool:
    """In bfloat16: it uses the CPU's matrix units, and our kernels may not.

    Raises:
        InvalidConfigurationError: `OCTAVO_AMX` is neither 0 nor 1.
    """
    from octavo.kernels.cpu.attention.paged_prefill import attends_by_registers  # needs numba

    return not attends_by_registers() and has_matrix_units()


def _repeats() -> Repeats:
    from octavo.worker.cpu.repeated_steps import RepeatedSteps  # needs numba

    return RepeatedSteps()


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
