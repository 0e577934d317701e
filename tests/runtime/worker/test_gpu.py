"""What only a GPU can show: recorded decode steps, no waiting in `submit`, and the start of an executor."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from octavo.config import Device, EngineConfig, KVCacheDtype
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.errors import OutOfMemoryError
from octavo.kernels.reference import device as reference
from octavo.models.registry import read_model_config
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence, StepBatch
from octavo.worker.gpu.executor import GpuExecutor
from octavo.worker.start.memory import bytes_per_block
from tests.support.runtime.checkpoints import VOCAB, make_checkpoint
from tests.support.runtime.gpu_path import Overlapped, Running, make_gpu_executor
from tests.support.runtime.stepping import make_executor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder, and transformers' model of it on the GPU."""
    folder = tmp_path_factory.mktemp("qwen3")
    reference_model = make_checkpoint(
        folder, "qwen3", head_dim=64, num_attention_heads=4, initializer_range=0.1
    )
    return folder, reference_model.cuda()


@pytest.fixture
def exact_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def running() -> list[Running]:
    return [Running(i, [(7 * i + j) % (VOCAB - 3) + 3 for j in range(3 + 9 * i)]) for i in range(7)]


def generate(executor: Any, sequences: list[Running], count: int = 24) -> list[list[int]]:
    steps = Overlapped(executor)
    steps.submit([(s, len(s.prompt)) for s in sequences])
    for _ in range(count - 1):
        steps.submit([(s, 1) for s in sequences])
    steps.take()
    return [s.output for s in sequences]


def on_gpu(folder: Path, **changes: object) -> GpuExecutor:
    values: dict[str, object] = {"device": Device.CUDA, "kv_cache_memory_bytes": 64 * 2**20}
    executor = make_executor(folder, **{**values, **changes})
    assert isinstance(executor, GpuExecutor)
    return executor


def test_recorded_steps_give_the_tokens_of_eager_ones_and_of_transformers(
    model: Any, exact_products: None
) -> None:
    folder, reference_model = model
    recorded = on_gpu(folder)
    # Compile is there as well unless all kernels were in the cache.
    phases = [name for name in recorded.info.phases if name != "compile"]
    assert phases == ["load", "profile", "warmup", "capture"]
    eager = on_gpu(folder, enforce_eager=True)
    assert "capture" not in eager.info.phases
    sequences = running()
    outputs = generate(recorded, sequences)
    assert outputs == generate(eager, running())
    for sequence in sequences:
        expected = reference_model.generate(
            torch.tensor([sequence.prompt], device="cuda"),
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert sequence.output == expected[0, len(sequence.prompt) :].tolist()


@pytest.mark.parametrize("cache", [KVCacheDtype.AUTO, KVCacheDtype.FP8])
def test_the_path_is_that_of_the_reference_on_a_cpu(
    model: Any, exact_products: None, cache: KVCacheDtype
) -> None:
    folder, _ = model
    cache_dtype = torch.float8_e4m3fn if cache is KVCacheDtype.FP8 else torch.float32
    expected = make_gpu_executor(folder, kernels=reference, cache_dtype=cache_dtype)
    first = [tokens[:4] for tokens in generate(expected, running(), 4)]
    assert [t[:4] for t in generate(on_gpu(folder, kv_cache_dtype=cache), running(), 4)] == first


def test_an_engine_that_preempts_shares_and_copies_blocks_answers_as_transformers(
    model: Any, exact_products: None
) -> None:
    """Chunks beside decodes, recorded steps between them, preemption, and copies of blocks."""
    folder, reference_model = model
    spec = read_model_config(folder).spec
    block_bytes = bytes_per_block(
        block_size=16,
        num_layers=spec.num_layers,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        element_bytes=4,
    )
    executor = on_gpu(
        folder, kv_cache_memory_bytes=20 * block_bytes, max_num_seqs=8, max_num_batched_tokens=48
    )
    config = EngineConfig(model=str(folder), max_num_seqs=8, max_num_batched_tokens=48)
    core = EngineCore(config, executor, is_debugging=True)
    shared = [(11 * i) % (VOCAB - 3) + 3 for i in range(40)]
    greedy = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    prompts = [shared + [5 + i] * (1 + 9 * i) for i in range(4)]
    for index, prompt in enumerate(prompts):
        core.add(AddRequest(str(index), prompt, msgspec.structs.replace(greedy, n=1 + index % 2)))
    outputs: dict[tuple[str, int], list[int]] = {}
    while core.has_work:
        for output in core.step().outputs:
            assert output.error is None
            outputs.setdefault((output.request_id, output.index), []).extend(output.new_token_ids)
    assert core.stats().preemptions_total > 0
    assert core.stats().prefix_cache_hit_tokens_total > 0
    assert len(outputs) == 6
    for (name, _), tokens in outputs.items():
        prompt = prompts[int(name)]
        expected = reference_model.generate(
            torch.tensor([prompt], device="cuda"),
            max_new_tokens=40,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert tokens == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("cache", [KVCacheDtype.AUTO, KVCacheDtype.FP8])
def test_a_copied_block_holds_what_its_source_held(model: Any, cache: KVCacheDtype) -> None:
    folder, _ = model
    executor = on_gpu(folder, kv_cache_dtype=cache)
    prompt = [(5 * j) % (VOCAB - 3) + 3 for j in range(20)]
    outputs = []
    for ids, is_copied in (((0, 1), False), ((2, 3), True)):
        first, second = (Running(i, prompt) for i in ids)
        steps = Overlapped(executor)
        steps.submit([(first, 20)])
        steps.take()
        copies = []
        if is_copied:
            target = steps.take_block()
            second.blocks, second.computed = [first.blocks[0], target], 20
            second.output = list(first.output)
            copies = [(first.blocks[1], target)]
        else:
            steps.submit([(second, 20)])
            steps.take()
        steps.submit([(first, 1), (second, 1)], copies)
        for _ in range(10):
            steps.submit([(first, 1), (second, 1)])
        steps.take()
        outputs.append((first.output, second.output))
    assert outputs[0] == outputs[1]


def test_the_result_of_a_chunk_waits_for_it(model: Any) -> None:
    folder, _ = model
    executor = on_gpu(folder)
    for index in range(20):
        chunk = ScheduledSequence(index, [4] * 24, 0, [index, index + 1], None)
        assert executor.submit(StepBatch([chunk])).result() == []
        assert torch.cuda.current_stream().query()


def test_submit_does_not_wait_for_the_device(model: Any) -> None:
    folder, _ = model
    executor = on_gpu(folder)
    params = SamplingParams(
        temperature=0.9, top_p=0.9, presence_penalty=0.5, logprobs=3, max_tokens=None
    )
    steps = Overlapped(executor)
    sequences = running()
    sequences[0].params = sequences[3].params = params
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps.submit([(s, len(s.prompt)) for s in sequences])
        for _ in range(5):
            steps.submit([(s, 1) for s in sequences])
        steps.take()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(len(s.output) == 6 for s in sequences)


def test_warm_up_finds_all_its_kernels_compiled(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Blocks of 64 tokens take forms that no other test of this process has made."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    folder, _ = model
    executor = on_gpu(folder, block_size=64)
    assert "compile" in executor.info.phases
    assert "warm-up had to compile 0 forms" in caplog.text
    assert "compile" not in on_gpu(folder, block_size=64).info.phases


def test_memory_is_taken_up_to_the_share(model: Any) -> None:
    folder, _ = model
    free, total = torch.cuda.mem_get_info()
    share = round((total - free) / total + 0.1, 2)
    executor = on_gpu(
        folder, kv_cache_memory_bytes=None, gpu_memory_utilization=share, max_num_seqs=64
    )
    del executor
    free_after, _ = torch.cuda.mem_get_info()
    assert total - free_after <= share * total + 512 * 2**20


def test_a_model_that_does_not_fit_is_told_before_its_weights_are_read(
    model: Any, tmp_path: Path
) -> None:
    make_checkpoint(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        config.replace('"intermediate_size": 80', '"intermediate_size": 800000000')
    )
    with pytest.raises(OutOfMemoryError, match="weights take"):
        on_gpu(tmp_path)
