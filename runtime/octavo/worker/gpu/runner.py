"""Model runner for GPUs. Runs steps on a GPU without waiting for it: pack, upload, lay out, run the model,
sample, copy back.

Everything is queued on one stream, in order; the host goes on to the next step. No tensor's value is looked
at here, and decode steps run from CUDA graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.config import EngineConfig
from octavo.kernels.packed_step import PackedView
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.step_state import SequenceState, StepBuffers, StepLayout
from octavo.layers.rotary import RotaryTable
from octavo.layers.triton_attention import DecodeWorkspaces, TritonAttentionStep
from octavo.models.base import CausalLM
from octavo.sampling.device.rows import SamplingRows
from octavo.sampling.device.sampler import DeviceSampler
from octavo.sampling.processors.base import DeviceRoom
from octavo.worker.batch import StepBatch
from octavo.worker.gpu.cuda_graphs import Capture, DecodeGraphs, padded_sizes
from octavo.worker.gpu.prompt_scores import score_on_device
from octavo.worker.gpu.readback import PendingSamples, Readback
from octavo.worker.gpu.state_rows import StateRows
from octavo.worker.gpu.step_packing import PackedStep, pack_step
from octavo.worker.gpu.upload import Uploader


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """Sizes of what a runner allocates.

    Args:
        num_blocks: Of the KV cache, each `block_size` tokens.
        max_model_len: Positions that can occur.
        max_num_batched_tokens: Tokens of one step.
        max_num_seqs: Sequences of one step.
    """

    num_blocks: int
    block_size: int
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int

    @classmethod
    def of(cls, config: EngineConfig, *, num_blocks: int, max_model_len: int) -> RunnerLimits:
        """What `config` asks for, with the sizes that memory decides."""
        return cls(
            num_blocks=num_blocks,
            block_size=config.block_size,
            max_model_len=max_model_len,
            max_num_batched_tokens=config.max_num_batched_tokens,
            max_num_seqs=config.max_num_seqs,
        )

    @property
    def max_blocks(self) -> int:
        """Of one sequence, rounded up so that each row of a table begins at a multiple of 16 bytes."""
        return -(-self.max_model_len // (4 * self.block_size)) * 4


class GpuRunner:
    """A model with its KV cache and the state of its sequences.

    Args:
        kernels: Those of `device`; the reference runs the same path on a CPU, for tests.
        cache_dtype: The model's, or `torch.float8_e4m3fn`.
        seed: Of sequences that bring none.
        normalises: Embeddings are scaled to length 1.
    """

    def __init__(
        self,
        model: CausalLM,
        kernels: DeviceKernels,
        limits: RunnerLimits,
        *,
        device: torch.device,
        dtype: torch.dtype,
        cache_dtype: torch.dtype,
        seed: int,
        normalises: bool = True,
    ) -> None:
        spec = model.spec
        self.model = model
        self.limits = limits
        self.device = device
        self._kernels = kernels
        block = (limits.block_size, 2, spec.num_kv_heads, spec.head_dim)
        # Zeroed, so that no run can depend on what the memory held before.
        self._caches = [
            torch.zeros((limits.num_blocks, *block), dtype=cache_dtype, device=device)
            for _ in range(spec.num_layers)
        ]
        self._rotary_tables = tuple(
            RotaryTable(rope, spec.head_dim, limits.max_model_len, dtype=dtype, device=device).table
            for rope in spec.rotary
        )
        self._workspaces = DecodeWorkspaces(
            kernels,
            max_seqs=limits.max_num_seqs,
            num_query_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            dtype=dtype,
            cache_dtype=cache_dtype,
            device=device,
        )
        # Twice the sequences of a step: those that ended are released with a later batch.
        num_rows = 2 * limits.max_num_seqs
        room = DeviceRoom(kernels, spec.vocab_size, num_rows, device)
        self.rows = StateRows(num_rows, SamplingRows(room, seed))
        self._state = SequenceState.make(self.rows.num_rows, limits.max_blocks, device)
        self._buffers = StepBuffers.make(
            max_tokens=max(limits.max_num_batched_tokens, limits.max_num_seqs),
            max_seqs=limits.max_num_seqs,
            max_blocks=limits.max_blocks,
            device=device,
        )
        self._hidden = torch.zeros(
            (limits.max_num_seqs, spec.hidden_size), dtype=dtype, device=device
        )
        self._uploader = Uploader(
            4 * limits.max_num_batched_tokens + 32 * limits.max_num_seqs, device
        )
        self._sampler = DeviceSampler(kernels, spec.vocab_size, device, normalises=normalises)
        self._readback = Readback(device)
        self._graphs: DecodeGraphs | None = None

    @torch.inference_mode()
    def capture(self, capture: Capture) -> None:
        """Records the decode steps, all rows of them padding: nothing is read or written."""
        sizes = padded_sizes(self.limits.max_num_seqs)
        self._graphs = DecodeGraphs(sizes, self._decode, self._pad, capture)

    @torch.inference_mode()
    def submit(self, batch: StepBatch) -> PendingSamples:
        """Queues one step.

        Raises:
            ValueError: The batch contradicts itself; see `pack_step`.

        Whatever is raised, the batch's sequences have no rows afterwards and the others are untouched.
        """
        self.rows.release(batch.released)
        try:
            return self._submit(batch)
        except Exception:
            self.rows.release([entry.sequence_id for entry in batch.entries])
            raise

    def _submit(self, batch: StepBatch) -> PendingSamples:
        size = self._graph_size(batch)
        step = pack_step(
            batch,
            self.rows,
            vocab_size=self.model.spec.vocab_size,
            max_blocks=self.limits.max_blocks,
            pad_to=size or 0,
        )
        packed = self._uploader.upload(step.packer)
        view = PackedView(packed)
        self._copy_blocks(step, view)
        if step.layout.num_seqs == 0:
            return PendingSamples(None, None, None)
        self._kernels.step_inputs(
            packed, step.layout, self._state, self._buffers, self.limits.block_size
        )
        if size is not None and self._graphs is not None:
            self._graphs.replay(size)
            hidden = self._hidden[: step.num_tokens]
        else:
            layout = step.layout
            hidden = self._forward(
                step.num_tokens, layout.num_decodes, layout.num_seqs, step.max_query_len
            )
        return self._finish(step, hidden, view, is_normalised=size is not None)

    def _finish(
        self, step: PackedStep, hidden: torch.Tensor, view: PackedView, *, is_normalised: bool
    ) -> PendingSamples:
        rows, scored = step.sampled, None
        if step.scores is not None:
            at_once = self.limits.max_num_seqs
            scored = score_on_device(self.model, self._kernels, hidden, step.scores, view, at_once)
        if rows is None:
            return self._readback.start_unsampled(step.scores, scored)
        samples = rows.samples
        count = len(samples.sequence_ids)
        if rows.hidden_rows is not None:
            hidden = hidden.index_select(0, view.int64(rows.hidden_rows, count))
        if not is_normalised:
            hidden = self.model.normalise(hidden)
        sampled = self._sampler.sample(hidden, self.model.logits(hidden), samples, view)
        state_rows = view.int64(rows.state_rows, count)
        self._state.last_tokens.index_copy_(0, state_rows, sampled.tokens)
        return self._readback.start(sampled, samples, step.scores, scored)

    def _graph_size(self, batch: StepBatch) -> int | None:
        if self._graphs is None or not batch.entries:
            return None
        if any(len(entry.token_ids) != 1 or entry.scored for entry in batch.entries):
            return None
        return self._graphs.size_for(len(batch.entries))

    def _decode(self, size: int) -> None:
        """A step of `size` decodes between fixed buffers: what a graph records."""
        residual = self._forward(size, size, size, 1)
        self._hidden[:size].copy_(self.model.normalise(residual))

    def _pad(self, size: int) -> None:
        nothing = torch.zeros(4, dtype=torch.int32, device=self.device)
        layout = StepLayout(0, 0, size, 0, 0, 0, 0, 0, 0)
        self._kernels.step_inputs(
            nothing, layout, self._state, self._buffers, self.limits.block_size
        )

    def _forward(
        self, num_tokens: int, num_decodes: int, num_seqs: int, max_query_len: int
    ) -> torch.Tensor:
        """The residual stream after all layers, `[num_tokens, hidden]`."""
        step = TritonAttentionStep(
            self._kernels,
            self._rotary_tables,
            self._buffers,
            self._workspaces,
            num_decodes,
            num_seqs - num_decodes,
            max_query_len,
        )
        return self.model.forward(self._buffers.token_ids[:num_tokens], self._caches, step)

    def _copy_blocks(self, step: PackedStep, view: PackedView) -> None:
        if not step.num_copies:
            return
        sources, targets = view.int64(step.copies, 2 * step.num_copies).chunk(2)
        for cache in self._caches:
            stored = cache.view(torch.uint8)  # copies of FP8 tensors are not implemented everywhere
            stored.index_copy_(0, targets, stored.index_select(0, sources))
