"""What is left for the KV cache, of a GPU whose allocator and processes are made up here."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch

from octavo.config import EngineConfig
from octavo.kernels.reference import device as reference
from octavo.worker.batch import StepBatch
from octavo.worker.gpu.packed_runner import RunnerLimits
from octavo.worker.gpu.profile import gpu_cache_budget
from octavo.worker.gpu.readback import PendingSamples
from octavo.worker.gpu.runner import GpuRunner
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor

MIB = 2**20
TOTAL, CONTEXT, OTHER_PROCESS = 40_000 * MIB, 500 * MIB, 3_000 * MIB
WEIGHTS, GAPS = 16_000 * MIB, 700 * MIB
COUNTS, DECODE, PROMPT = 300 * MIB, 100 * MIB, 900 * MIB
SPARE = 256 * MIB


class Memory:
    """A caching allocator: of a model between whose tensors it keeps gaps, and of steps."""

    def __init__(self) -> None:
        self.allocated = self.peak = WEIGHTS
        self.has_counts: weakref.WeakSet[GpuRunner] = weakref.WeakSet()

    def run(self, runner: GpuRunner, batch: StepBatch) -> None:
        """Prompts take most for a while; the first penalties leave something for as long as the runner."""
        states = [entry.sampling for entry in batch.entries if entry.sampling is not None]
        has_penalties = any(state.params.presence_penalty for state in states)
        if has_penalties and runner not in self.has_counts:
            self.has_counts.add(runner)
            self.allocated += COUNTS
            weakref.finalize(runner, self.free, COUNTS)
        is_prompt = any(len(entry.token_ids) > 1 for entry in batch.entries)
        self.peak = max(self.peak, self.allocated + (PROMPT if is_prompt else DECODE))

    def free(self, num_bytes: int) -> None:
        self.allocated -= num_bytes

    def memory_allocated(self, _: torch.device) -> int:
        return self.allocated

    def memory_reserved(self, _: torch.device) -> int:
        return self.allocated + GAPS

    def max_memory_allocated(self, _: torch.device) -> int:
        return self.peak

    def reset_peak_memory_stats(self, _: torch.device) -> None:
        self.peak = self.allocated

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        return TOTAL - CONTEXT - OTHER_PROCESS - self.memory_reserved(device), TOTAL

    def empty_cache(self) -> None: ...

    def synchronize(self, _: torch.device) -> None: ...


@pytest.mark.parametrize("enforce_eager", [False, True])
def test_the_budget_is_the_share_less_all_that_is_taken_at_once(
    enforce_eager: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    make_checkpoint(tmp_path, num_hidden_layers=1)
    model = make_gpu_executor(tmp_path).runner.model
    memory = Memory()
    for name in vars(Memory):
        if not name.startswith("_") and hasattr(torch.cuda, name):
            monkeypatch.setattr(torch.cuda, name, getattr(memory, name))
    submit = GpuRunner.submit

    def measured(runner: GpuRunner, batch: StepBatch) -> PendingSamples:
        memory.run(runner, batch)
        return submit(runner, batch)

    monkeypatch.setattr(GpuRunner, "submit", measured)
    config = EngineConfig(
        model=str(tmp_path),
        max_num_seqs=8,
        max_num_batched_tokens=64,
        gpu_memory_utilization=0.75,
        enforce_eager=enforce_eager,
    )
    cpu, dtype = torch.device("cpu"), torch.float32

    def make(limits: RunnerLimits) -> GpuRunner:
        return GpuRunner(
            model, reference, limits, device=cpu, dtype=dtype, cache_dtype=dtype, seed=0
        )

    budget = gpu_cache_budget(config, model.spec, make, cpu)
    recorded = 0 if enforce_eager else DECODE
    taken = CONTEXT + OTHER_PROCESS + WEIGHTS + GAPS + COUNTS + PROMPT + recorded + SPARE
    assert budget == TOTAL * 3 // 4 - taken
    assert memory.allocated == WEIGHTS
