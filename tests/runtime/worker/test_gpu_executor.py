"""The engine on the GPU's executor, which overlaps steps; and what becomes of faults."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from triton.runtime.errors import OutOfResources

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.errors import DeviceFaultError, InvalidConfigurationError, OutOfMemoryError
from octavo.kernels.reference import device as reference
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import StepBatch
from octavo.worker.gpu.drafter import GpuDrafting
from octavo.worker.gpu.executor import GpuExecutor, start_gpu_executor
from octavo.worker.gpu.packed_runner import RunnerLimits
from octavo.worker.gpu.prepare import translated_start_errors
from octavo.worker.gpu.profile import largest_steps, warm_up_gpu
from octavo.worker.gpu.readback import PendingSamples
from octavo.worker.gpu.runner import GpuRunner
from octavo.worker.loaded import Loaded
from octavo.worker.start.phases import PhaseTimer
from tests.support.runtime.checkpoints import VOCAB, make_checkpoint
from tests.support.runtime.gpu_path import CPU, make_gpu_executor


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder, and transformers' model of it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("llama")
    return folder, make_checkpoint(folder)


def run(core: EngineCore, requests: list[AddRequest]) -> dict[tuple[str, int], list[int]]:
    """Requests arrive while others run."""
    waiting = list(requests)
    outputs: dict[tuple[str, int], list[int]] = {}
    while waiting or core.has_work:
        if waiting:
            core.add(waiting.pop(0))
        for output in core.step().outputs:
            assert output.error is None
            outputs.setdefault((output.request_id, output.index), []).extend(output.new_token_ids)
    return outputs


def test_an_engine_that_preempts_shares_and_copies_blocks_answers_as_transformers(
    llama: Any,
) -> None:
    folder, reference = llama
    executor = make_gpu_executor(folder, num_blocks=24, max_num_seqs=8)
    config = EngineConfig(model=str(folder), max_num_seqs=8, max_num_batched_tokens=48)
    core = EngineCore(config, executor, is_debugging=True)
    numbers = random.Random(3)  # noqa: S311
    shared = [numbers.randrange(3, VOCAB) for _ in range(40)]
    prompts = [shared + [numbers.randrange(3, VOCAB) for _ in range(n)] for n in (1, 9, 30, 9)]
    prompts += [[numbers.randrange(3, VOCAB) for _ in range(n)] for n in (5, 70)]
    greedy = {"temperature": 0.0, "max_tokens": 40, "ignore_eos": True}
    requests = [
        AddRequest(str(i), prompt, SamplingParams(**greedy, n=1 + i % 2))  # type: ignore[arg-type]
        for i, prompt in enumerate(prompts)
    ]
    outputs = run(core, requests)
    assert core.stats().preemptions_total > 0
    assert core.stats().prefix_cache_hit_tokens_total > 0
    assert len(outputs) == 9
    for (name, _), tokens in outputs.items():
        prompt = prompts[int(name)]
        expected = reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=40,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert tokens == expected[0, len(prompt) :].tolist()
    executor.submit(StepBatch([], released=range(100)))
    assert executor.runner.rows.num_used == 0


def test_seeds_and_penalties_outlive_preemptions(llama: Any) -> None:
    folder, _ = llama
    params = SamplingParams(
        temperature=1.0, seed=11, frequency_penalty=0.8, max_tokens=50, ignore_eos=True
    )
    requests = [AddRequest(str(i), [4 + i] * 30, params) for i in range(4)]
    results = []
    for num_blocks in (100, 12):
        config = EngineConfig(model=str(folder), max_num_seqs=8, max_num_batched_tokens=48)
        core = EngineCore(config, make_gpu_executor(folder, num_blocks=num_blocks, max_num_seqs=8))
        results.append(run(core, requests))
    assert core.stats().preemptions_total > 0
    assert results[0] == results[1]


class Gpu:
    """What a step meets on a GPU, and what the device says when it is asked afterwards."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, llama: Any) -> None:
        self.executor = make_gpu_executor(llama[0])
        self.num_probes = 0
        self._is_lost = False
        self._error: Exception | None = None
        monkeypatch.setattr(self.executor.runner, "device", torch.device("cuda", 0))
        monkeypatch.setattr(self.executor.runner, "submit", self._submit)
        monkeypatch.setattr(torch.cuda, "synchronize", self._synchronize)

    def run(self, error: Exception, *, is_lost: bool) -> None:
        self._error, self._is_lost = error, is_lost
        self.executor.submit(StepBatch([]))

    def _submit(self, _: StepBatch) -> None:
        assert self._error is not None
        raise self._error

    def _synchronize(self, device: torch.device) -> None:
        self.num_probes += 1
        if self._is_lost:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, llama: Any) -> Gpu:
    return Gpu(monkeypatch, llama)


UNCLEAR = [
    "Triton Error [CUDA]: an illegal memory access was encountered",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`",
    "CUDA driver error: 700",
]


@pytest.mark.parametrize("message", UNCLEAR)
def test_an_error_on_a_lost_device_is_a_device_fault(gpu: Gpu, message: str) -> None:
    with pytest.raises(DeviceFaultError, match="cpu failed: " + re.escape(message)):
        gpu.run(RuntimeError(message), is_lost=True)


@pytest.mark.parametrize("message", UNCLEAR)
def test_the_same_error_on_a_device_that_still_answers_is_the_steps_own(
    gpu: Gpu, message: str
) -> None:
    with pytest.raises(RuntimeError, match=re.escape(message)):
        gpu.run(RuntimeError(message), is_lost=False)


def test_what_torch_calls_a_device_error_is_a_device_fault_at_once(gpu: Gpu) -> None:
    with pytest.raises(DeviceFaultError, match="illegal memory access"):
        gpu.run(torch.AcceleratorError("CUDA error: an illegal memory access"), is_lost=True)
    assert gpu.num_probes == 0


def test_too_little_memory_is_the_steps_own_and_asks_nothing(gpu: Gpu) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        gpu.run(torch.OutOfMemoryError("CUDA out of memory"), is_lost=False)
    assert gpu.num_probes == 0


def test_a_device_that_is_lost_while_a_step_runs_is_noticed_at_its_result() -> None:
    class LostEvent:
        def synchronize(self) -> None:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    anything: Any = object()
    pending = PendingSamples(anything, anything, LostEvent())  # type: ignore[arg-type]
    with pytest.raises(DeviceFaultError, match="launch failure"):
        pending.result()


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            OutOfResources(232448, 101376, "shared memory"),
            InvalidConfigurationError,
            r"needs 232448 of shared memory, and this GPU has 101376.*nodeSelector",
        ),
        (ValueError("no form"), InvalidConfigurationError, "cannot run on cuda: no form"),
        (torch.OutOfMemoryError("full"), OutOfMemoryError, "full Lower --gpu-memory-utilization"),
    ],
    ids=["resources", "form", "memory"],
)
def test_what_the_first_steps_raise_says_what_to_do(
    error: Exception, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said), translated_start_errors(torch.device("cuda")):
        raise error


@pytest.mark.parametrize("max_num_seqs", [1, 16])
def test_warming_up_leaves_no_rows(llama: Any, max_num_seqs: int) -> None:
    executor = make_gpu_executor(llama[0], max_num_seqs=max_num_seqs, is_padded=False)
    warm_up_gpu(executor.runner)
    assert executor.runner.rows.num_used == 0


def test_the_profiled_steps_are_the_largest_and_can_run(llama: Any) -> None:
    limits = RunnerLimits(1, 16, 256, max_num_batched_tokens=500, max_num_seqs=16)
    decodes, prompts = largest_steps(limits)
    assert sum(len(entry.token_ids) for entry in prompts) == 500
    assert (len(prompts), len(decodes)) == (16, 16)
    executor = make_gpu_executor(llama[0], num_blocks=1, is_padded=False)
    assert len(executor.submit(StepBatch(prompts)).result()) == 16
    executor.submit(StepBatch([], released=range(16)))
    assert len(executor.submit(StepBatch(decodes)).result()) == 16


@pytest.mark.parametrize("enforce_eager", [False, True])
def test_the_largest_steps_run_last_beside_what_was_recorded(
    llama: Any, monkeypatch: pytest.MonkeyPatch, enforce_eager: bool
) -> None:
    """They find out whether memory suffices, so nothing may be allocated for good after them."""
    log: list[str | int] = []

    def capture(work: Callable[[], None]) -> Callable[[], None]:
        log.append("recorded")
        return work

    submit = GpuRunner.submit

    def logged(runner: GpuRunner, batch: StepBatch) -> PendingSamples:
        if batch.entries:
            log.append(sum(len(entry.token_ids) for entry in batch.entries))
        return submit(runner, batch)

    monkeypatch.setattr(GpuRunner, "submit", logged)
    config = EngineConfig(
        model=str(llama[0]),
        max_num_seqs=8,
        max_num_batched_tokens=64,
        kv_cache_memory_bytes=2**20,
        enforce_eager=enforce_eager,
    )
    loaded: Loaded[GpuDrafting] = Loaded(make_gpu_executor(llama[0]).runner.model)
    start_gpu_executor(
        config,
        loaded,
        reference,
        device=CPU,
        dtype=torch.float32,
        phase=PhaseTimer(lambda _: None),
        reload=lambda: loaded,
        new_capture=lambda: capture,
    )
    assert log[-2:] == [8, 64]
    assert ("recorded" in log) is not enforce_eager


@pytest.mark.parametrize("may_run_eager", [False, True])
def test_steps_that_cannot_be_recorded_run_piece_by_piece_or_end_the_start(
    llama: Any, may_run_eager: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def capture(work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    loaded: Loaded[GpuDrafting] = Loaded(make_gpu_executor(llama[0]).runner.model)

    def start() -> GpuExecutor:
        return start_gpu_executor(
            EngineConfig(model=str(llama[0]), max_num_seqs=4, kv_cache_memory_bytes=2**20),
            loaded,
            reference,
            device=CPU,
            dtype=torch.float32,
            phase=PhaseTimer(lambda _: None),
            reload=lambda: loaded,
            new_capture=lambda: capture,
            may_run_eager=may_run_eager,
        )

    if not may_run_eager:
        with pytest.raises(RuntimeError, match="not permitted"):
            start()
        return
    runner = start().runner
    assert runner.graph_size(1) is None
    told = "Steps run without CUDA graphs: recording failed: operation not permitted when stream"
    assert told in caplog.text
    _, decodes = largest_steps(runner.limits)
    assert len(runner.submit(StepBatch(decodes)).result()) == len(decodes)
