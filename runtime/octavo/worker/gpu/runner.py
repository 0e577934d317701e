"""Model runner for GPUs. Runs steps on a GPU without waiting for it: pack, upload, lay out, run the model,
sample, copy back.

Everything is queued on one stream, in order; the host goes on to the next step. No tensor's value is looked
at here, and decode steps run from CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from octavo.kernels.packed_step import PackedView, Packer
from octavo.kernels.protocols.device import DeviceKernels
from octavo.layers.ranks import ALONE, Ranks
from octavo.models.base import CausalLM
from octavo.models.hidden_states import HiddenStates
from octavo.models.seated_adapters import SeatedAdapters
from octavo.sampling.device.rows import SamplingRows
from octavo.sampling.device.sampler import DeviceSampler
from octavo.sampling.device.samples import Samples
from octavo.sampling.processors.base import DeviceRoom, PackedShape
from octavo.worker.batch import BASE_MODEL, StepBatch
from octavo.worker.gpu.adapter_packing import SeatedStep
from octavo.worker.gpu.draft_rows import check_drafts, num_decode_rows
from octavo.worker.gpu.packed_runner import PackedRunner, RunnerLimits, StepRows
from octavo.worker.gpu.prompt_scores import best_of_slices
from octavo.worker.gpu.readback import PendingSamples, Readback
from octavo.worker.gpu.state_rows import StateRows
from octavo.worker.gpu.step_outline import StepOutline
from octavo.worker.gpu.step_packing import PackedStep, pack_step
from octavo.worker.gpu.upload import Uploader

Tell = Callable[[StepOutline, Packer], None]
"""Sends a step to the other ranks, before it runs here."""


class GpuRunner(PackedRunner):
    """A model with its KV cache and the state of its sequences; of several ranks the first.

    Args:
        seed: Of sequences that bring none.
        normalises: Embeddings are scaled to length 1.
        tell: None where there are no other ranks.
        watch: See `PackedRunner`.
        adapters: Of the model; None: it takes none.
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
        ranks: Ranks = ALONE,
        tell: Tell | None = None,
        watch: HiddenStates | None = None,
        adapters: SeatedAdapters | None = None,
    ) -> None:
        super().__init__(
            model,
            kernels,
            limits,
            device=device,
            dtype=dtype,
            cache_dtype=cache_dtype,
            ranks=ranks,
            watch=watch,
        )
        vocab = model.spec.vocab_size
        room = DeviceRoom(kernels, vocab, limits.num_rows, device)
        self.rows = StateRows(limits.num_rows, SamplingRows(room, seed))
        self._sampler = DeviceSampler(kernels, vocab, device, normalises=normalises)
        self._readback = Readback(device)
        self._late_uploader = Uploader(limits.max_sampled, device)  # grows with the vocabulary
        self._tell = tell
        self._states: torch.Tensor | None = None
        self._adapters = adapters

    @torch.inference_mode()
    def submit(self, batch: StepBatch) -> PendingSamples:
        """Queues one step.

        Raises:
            ValueError: The batch contradicts itself; see `pack_step`, and `SeatedAdapters.seats_of`.

        Whatever is raised, the batch's sequences have no rows afterwards and the others are untouched.
        """
        self.rows.release(batch.released)
        try:
            return self._submit(batch)
        except Exception:
            self.rows.release([entry.sequence_id for entry in batch.entries])
            raise

    def take_states(self) -> torch.Tensor | None:
        """Of the step that was queued last, what `watch` keeps of it; once."""
        states, self._states = self._states, None
        return states

    def _submit(self, batch: StepBatch) -> PendingSamples:
        check_drafts(batch.entries, self.limits.max_drafts)
        size = self._recorded_size(batch)
        step = pack_step(
            batch,
            self.rows,
            vocab_size=self.model.spec.vocab_size,
            block_size=self.limits.block_size,
            max_blocks=self.limits.max_blocks,
            pad_to=size or 0,
            adapters=self._seated(batch),
        )
        outline = step.outline(size or 0)
        if self._tell is not None and not outline.is_empty:
            self._tell(outline, step.packer)
        rows = self.run(outline, step.packer)
        if rows is None:
            return PendingSamples(None, None, None)
        self._states = rows.states
        return self._finish(step, rows)

    def _finish(self, step: PackedStep, rows: StepRows) -> PendingSamples:
        scored = None
        if step.scores is not None:
            vocab = self.model.spec.vocab_size
            slices = self.scored_logits(rows)
            scored = best_of_slices(self._kernels, slices, step.scores, rows.view, vocab)
        if step.sampled is None:
            return self._readback.start_unsampled(step.scores, scored)
        hidden, logits = self.sampled_logits(rows)
        samples = step.sampled.samples
        late = self._worked_out(samples)
        sampled = self._sampler.sample(hidden, logits, samples, rows.view, late)
        self.keep_tokens(rows, sampled.tokens)
        return self._readback.start(sampled, samples, step.scores, scored)

    def _worked_out(self, samples: Samples) -> list[tuple[PackedShape, PackedView]]:
        """What shapes scores and takes the host a while, with its array: uploaded behind the model's part of
        the step, which the device computes meanwhile. No other rank is told of it."""
        packer = Packer()
        shapes = self.rows.sampling.pack_late(samples, packer)
        if not shapes:
            return []
        view = PackedView(self._late_uploader.upload(packer))
        return [(shape, view) for shape in shapes]

    def _seated(self, batch: StepBatch) -> SeatedStep | None:
        adapter_ids = {entry.adapter_id for entry in batch.entries} - {BASE_MODEL}
        if self._adapters is None:
            if adapter_ids:
                raise ValueError(f"Adapters {sorted(adapter_ids)} in a model that takes none.")
            return None
        return SeatedStep(self._adapters.seats_of(adapter_ids), self._adapters.num_seats)

    def _recorded_size(self, batch: StepBatch) -> int | None:
        """None for a step that is launched piece by piece."""
        count = num_decode_rows(batch.entries)
        return self.graph_size(count) if count else None
