"""What an executor settles on at the start, and how it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.config import Device, EngineConfig, KVCacheDtype, LoadFormat
from octavo.errors import (
    DeviceFaultError,
    InvalidConfigurationError,
    ModelUnsupportedError,
    OutOfMemoryError,
)
from octavo.kernels.attention_plan import AttentionPlan
from octavo.kernels.prefill_chunks import PrefillChunks
from octavo.loading.safetensors_files import SafetensorsWeights
from octavo.sampling.state import SamplingState
from octavo.worker import machine
from octavo.worker.batch import ScheduledSequence, StepBatch
from octavo.worker.cpu import step_memory
from octavo.worker.cpu.executor import TorchExecutor
from octavo.worker.cpu.step_inputs import KernelRows
from octavo.worker.start import plan
from octavo.worker.start.create import create_executor
from octavo.worker.start.gpu_fit import check_gpu_generation
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import VOCAB, make_checkpoint
from tests.support.runtime.stepping import GREEDY, Stepper, make_executor


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, ""),
        ({"gpu_memory_utilization": 0.9}, "--gpu-memory-utilization"),
        (
            {"gpu_memory_utilization": 0.5, "enforce_eager": True},
            "--gpu-memory-utilization, --enforce-eager",
        ),
    ],
    ids=str,
)
def test_what_is_for_gpus_is_named_once_on_a_cpu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, given: dict[str, Any], named: str
) -> None:
    make_checkpoint(tmp_path)
    make_executor(tmp_path, **given)
    told = [line for line in caplog.messages if "without effect" in line]
    assert told == ([f"The engine runs on the CPU: {named} without effect."] if named else [])


def test_phases_are_announced_in_order_and_timed(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    announced: list[str] = []
    config = EngineConfig(model=str(tmp_path), device=Device.CPU, kv_cache_memory_bytes=2**20)
    info = create_executor(config, announced.append).info
    assert announced == ["load", "profile", "warmup"]
    assert list(info.phases) == announced
    assert all(seconds >= 0 for seconds in info.phases.values())
    assert (info.vocab_size, info.device) == (VOCAB, "cpu")


def test_cache_size_decides_blocks_and_length(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)  # 3 layers, 2 KV heads of 8, fp32: 384 bytes a token
    per_block = 384 * 16
    assert make_executor(tmp_path, kv_cache_memory_bytes=per_block * 5).info.num_kv_blocks == 5
    assert make_executor(tmp_path, kv_cache_memory_bytes=per_block * 5).info.max_model_len == 80
    with pytest.raises(OutOfMemoryError, match="--max-model-len 80"):
        make_executor(tmp_path, kv_cache_memory_bytes=per_block * 5, max_model_len=81)
    with pytest.raises(InvalidConfigurationError, match="256 positions"):
        make_executor(tmp_path, max_model_len=257)


def test_what_cannot_fit_is_told_before_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path)
    monkeypatch.setattr(SafetensorsWeights, "tensors", None)  # to read one would be another error
    with pytest.raises(InvalidConfigurationError, match="256 positions"):
        make_executor(tmp_path, max_model_len=257)
    with pytest.raises(OutOfMemoryError, match="Raise --kv-cache-memory to 1Mi"):
        make_executor(tmp_path, kv_cache_memory_bytes=1024)
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 2**20)
    with pytest.raises(OutOfMemoryError, match="The KV cache does not fit"):
        make_executor(tmp_path, kv_cache_memory_bytes=2**20)
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 2**14)
    with pytest.raises(OutOfMemoryError, match=r"weights take .* 16.00 KiB of memory"):
        make_executor(tmp_path)


def test_weights_that_find_no_room_on_a_gpu_are_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path)

    def build(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")

    monkeypatch.setattr(plan, "build_model", build)
    with pytest.raises(OutOfMemoryError, match="weights do not fit the GPU: CUDA out of memory"):
        make_executor(tmp_path)


def test_a_gpu_that_the_kernels_are_not_written_for_is_refused_by_name() -> None:
    check_gpu_generation("NVIDIA A10", (8, 6), KVCacheDtype.AUTO)
    with pytest.raises(InvalidConfigurationError, match=r"Tesla T4 of compute capability 7\.5"):
        check_gpu_generation("Tesla T4", (7, 5), KVCacheDtype.FP8)


def test_a_gpu_without_float8_is_told_before_anything_is_read() -> None:
    check_gpu_generation("NVIDIA L4", (8, 9), KVCacheDtype.FP8)
    with pytest.raises(InvalidConfigurationError, match=r"kv-cache-dtype fp8 .* A100 of 8\.0"):
        check_gpu_generation("NVIDIA A100", (8, 0), KVCacheDtype.FP8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_driver_that_torch_cannot_use_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_checkpoint(tmp_path)
    for path, count in ((tmp_path / "absent", 0), (tmp_path, 1)):
        monkeypatch.setattr(plan, "_NVIDIA_CONTROL", path)
        caplog.clear()
        make_executor(tmp_path, device=Device.AUTO)
        assert sum("runs on the CPU" in record.message for record in caplog.records) == count


def test_memory_of_an_untouched_cache_is_not_taken(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, max_position_embeddings=65536)
    code = (
        "import resource, sys; from octavo.config import *;"
        "from octavo.worker.start.create import create_executor;"
        "c = lambda n: create_executor(EngineConfig(model=sys.argv[1], device=Device.CPU,"
        " kv_cache_memory_bytes=n, max_model_len=64, max_num_seqs=256)).info.num_kv_blocks;"
        "c(2**20); a = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "c(2**30); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - a)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 100 * 1024  # KiB


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_says_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path)
    with pytest.raises(InvalidConfigurationError, match=r"sees no GPU: .*resources\.gpu.*--device"):
        make_executor(tmp_path, device=Device.CUDA)

    def init() -> None:
        raise RuntimeError("The driver is too old (found version 12020). Please update it.\nMore.")

    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(InvalidConfigurationError, match=r"too old \(found version 12020\)\. Give"):
        make_executor(tmp_path, device=Device.CUDA)


def test_unsupported_models_are_told_before_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    with pytest.raises(ModelUnsupportedError, match="GPT2LMHeadModel"):
        make_executor(tmp_path)


def test_a_step_that_fails_leaves_the_executor_usable(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    executor = make_executor(tmp_path)
    state = SamplingState(GREEDY, None, [1], [])
    with pytest.raises(Exception, match=r"."):
        executor.submit(StepBatch([ScheduledSequence(1, [VOCAB + 5], 0, [0], state)]))
    stepper = Stepper(executor)
    generation = stepper.sequence([3, 4, 5])
    assert len(stepper.step([(generation, 3)])) == 1


def test_a_lost_device_is_a_device_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_checkpoint(tmp_path)
    executor = make_executor(tmp_path)
    assert isinstance(executor, TorchExecutor)

    def lost(_batch: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(executor._runner, "run", lost)
    with pytest.raises(DeviceFaultError, match="illegal memory access"):
        executor.submit(StepBatch([]))


def test_bfloat16_follows_a_clear_favourite(tmp_path: Path) -> None:
    reference = make_checkpoint(tmp_path, "qwen3", hidden_size=256, intermediate_size=512)
    executor = make_executor(tmp_path, dtype="bfloat16")
    assert isinstance(executor, TorchExecutor)
    assert executor.info.dtype == "bfloat16"
    torch.manual_seed(0)
    tokens = torch.randint(3, VOCAB, (90,)).tolist()
    with torch.no_grad():
        expected = reference(torch.tensor([tokens])).logits[0]
    stepper = Stepper(executor)
    best = expected.topk(2, dim=-1)
    clear = 0
    for length in range(1, 91, 3):
        generation = stepper.sequence(tokens[:length])
        stepper.step([(generation, length)])
        stepper.free.extend(generation.blocks)
        margin = best.values[length - 1, 0] - best.values[length - 1, 1]
        if margin > 0.1 * expected[length - 1].std():
            clear += 1
            assert generation.output == [int(best.indices[length - 1, 0])]
    assert clear > 10


def test_dummy_weights_need_no_files_but_the_config(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    stepper = Stepper(make_executor(tmp_path, load_format=LoadFormat.DUMMY))
    generation = stepper.sequence([3, 4, 5])
    stepper.step([(generation, 3)])
    assert generation.output


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_torch_attends_for_prompts_in_bfloat16_where_only_it_has_matrix_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    needs_module(Requirement.NUMBA)
    make_checkpoint(tmp_path, head_dim=32)
    results: list[torch.Tensor] = []
    for is_torchs in (False, True):
        monkeypatch.setattr(step_memory, "_torch_attends_to_prompts", lambda its=is_torchs: its)
        executor = make_executor(tmp_path, dtype=dtype)
        assert isinstance(executor, TorchExecutor)
        sequence = Stepper(executor).sequence([token % VOCAB for token in range(40)])
        result = executor._runner.run([sequence.schedule(40)])
        rows = result.inputs.attention
        assert isinstance(rows, KernelRows)
        is_planned = is_torchs and dtype == "bfloat16"
        assert isinstance(rows.chunks, AttentionPlan if is_planned else PrefillChunks)
        assert result.logits is not None
        results.append(result.logits.float())
    ours, torchs = results
    assert (ours - torchs).norm() < 0.03 * torchs.norm()


@pytest.mark.parametrize("are_here", [False, True])
@pytest.mark.parametrize("are_ours", [False, True])
def test_our_kernel_attends_where_it_may_use_the_matrix_units(
    monkeypatch: pytest.MonkeyPatch, are_here: bool, are_ours: bool
) -> None:
    needs_module(Requirement.NUMBA)
    from octavo.kernels.cpu.attention import paged_prefill

    monkeypatch.setattr(step_memory, "has_matrix_units", lambda: are_here)
    monkeypatch.setattr(paged_prefill, "attends_by_registers", lambda: are_ours)
    assert step_memory._torch_attends_to_prompts() is (are_here and not are_ours)
