"""Device kernels. What the execution path of a GPU asks of its kernels, beside those that layers are built
with.

`kernels.gpu` and `kernels.reference` are modules of this shape, so that the whole path also runs on a CPU,
in tests. Nothing here waits for the device. The modules say what the arguments are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.protocols.layers import (
    AdapterKernels,
    ExpertKernels,
    FewRowKernels,
    Kernels,
    PackedKernels,
)
from octavo.kernels.step_state import SequenceState, StepBuffers, StepLayout

if TYPE_CHECKING:
    from octavo.kernels.reference.sampling.logprobs import TopLogprobs
    from octavo.kernels.reference.sampling.sample import SamplingTensors


class DeviceKernels(Kernels, ExpertKernels, FewRowKernels, PackedKernels, AdapterKernels, Protocol):
    """Attention over the paged cache, products, a mixture of experts, a step's inputs, and sampling."""

    def step_inputs(
        self,
        packed: torch.Tensor,
        layout: StepLayout,
        state: SequenceState,
        buffers: StepBuffers,
        block_size: int,
    ) -> None: ...

    def rope_and_cache(
        self,
        heads: torch.Tensor,
        cache: torch.Tensor,
        rotary_table: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        *,
        num_query_heads: int,
        num_kv_heads: int,
        head_norm_weight: torch.Tensor | None = None,
        eps: float = 1e-6,
    ) -> None: ...

    def make_decode_workspace(
        self,
        max_seqs: int,
        num_query_heads: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        dtype: torch.dtype,
        cache_dtype: torch.dtype,
        device: torch.device,
    ) -> Any:
        """Opaque here: it goes to `schedule_decode` and `paged_decode` alone."""
        ...

    def schedule_decode(
        self, context_lens: torch.Tensor, workspace: Any, sliding_window: int | None = None
    ) -> None: ...

    def paged_decode(
        self,
        query: torch.Tensor,
        cache: torch.Tensor,
        block_tables: torch.Tensor,
        context_lens: torch.Tensor,
        out: torch.Tensor,
        workspace: Any,
        options: AttentionOptions,
    ) -> None: ...

    def paged_prefill(
        self,
        query: torch.Tensor,
        cache: torch.Tensor,
        block_tables: torch.Tensor,
        context_lens: torch.Tensor,
        query_start: torch.Tensor,
        out: torch.Tensor,
        max_query_len: int,
        options: AttentionOptions,
    ) -> None: ...

    def sample(self, logits: torch.Tensor, tensors: SamplingTensors) -> torch.Tensor: ...

    def apply_penalties(
        self,
        logits: torch.Tensor,
        token_counts: torch.Tensor,
        presence: torch.Tensor,
        frequency: torch.Tensor,
        repetition: torch.Tensor,
        rows: torch.Tensor,
    ) -> None: ...

    def count_tokens(
        self, token_counts: torch.Tensor, rows: torch.Tensor, token_ids: torch.Tensor
    ) -> None: ...

    def top_logprobs(
        self, logits: torch.Tensor, token_ids: torch.Tensor, k: int
    ) -> TopLogprobs: ...
