"""A KV cache of float8 or bfloat16: what it costs, what it changes, and that it still answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from octavo.config import KVCacheDtype
from octavo.kernels.paged_attention import write_kv_cache
from octavo.model_source import resolve
from octavo.tokenizer import Tokenizer, load_tokenizer
from octavo.worker.batch import StepBatch
from octavo.worker.cpu.executor import TorchExecutor
from octavo.worker.cpu.runner import ModelRunner
from octavo.worker.start.dtype import choose_cache_dtype
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.stepping import Generation, Stepper, make_executor

PROMPT = [(7 * i * i + 3 * i) % 90 + 3 for i in range(75)]
FORMATS = {KVCacheDtype.BFLOAT16: 0.03, KVCacheDtype.FP8: 0.3}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (KVCacheDtype.AUTO, torch.float16),
        (KVCacheDtype.BFLOAT16, torch.bfloat16),
        (KVCacheDtype.FP8, torch.float8_e4m3fn),
        (KVCacheDtype.FP8_E4M3, torch.float8_e4m3fn),
    ],
)
def test_the_flag_names_a_dtype(wanted: KVCacheDtype, expected: torch.dtype) -> None:
    assert choose_cache_dtype(wanted, torch.float16) is expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    # Peaked attention would show the rounding of scores; a real model's is smoother.
    make_checkpoint(folder, initializer_range=0.12)
    return folder


def logits_after(folder: Path, cache: KVCacheDtype, chunks: list[int]) -> torch.Tensor:
    executor = make_executor(folder, kv_cache_dtype=cache)
    assert isinstance(executor, TorchExecutor)
    generation = Stepper(executor).sequence(PROMPT[: sum(chunks)])
    for count in chunks[:-1]:
        executor.submit(StepBatch([generation.schedule(count)])).result()
        generation.computed += count
    logits = executor._runner.run([generation.schedule(chunks[-1])]).logits
    assert logits is not None
    return logits[0]


@pytest.mark.parametrize("cache", FORMATS)
def test_scores_stay_close_to_those_of_the_models_own_format(
    folder: Path, cache: KVCacheDtype
) -> None:
    exact = logits_after(folder, KVCacheDtype.AUTO, [74, 1])
    rounded = logits_after(folder, cache, [74, 1])
    error = (rounded - exact).norm() / exact.norm()
    assert 0.0 < error < FORMATS[cache]


def test_it_does_not_matter_how_a_prompt_is_cut(folder: Path) -> None:
    """A chunk's own keys are rounded like those that it finds in the cache: a request that was preempted
    goes on with the same scores."""
    whole = logits_after(folder, KVCacheDtype.FP8, [75])
    for chunks in ([74, 1], [20, 30, 25], [1, 74]):
        cut = logits_after(folder, KVCacheDtype.FP8, chunks)
        torch.testing.assert_close(cut, whole, rtol=1e-3, atol=1e-3)


def test_what_a_broken_sequence_left_in_the_cache_reaches_nobody(folder: Path) -> None:
    """Float8 keys go through torch's form on a CPU, where decodes of like length are one product."""
    outputs = []
    for left in (0.0, torch.nan):
        executor = make_executor(folder, kv_cache_dtype=KVCacheDtype.FP8)
        assert isinstance(executor, TorchExecutor)
        assert isinstance(executor._runner, ModelRunner)
        for cache in executor._runner.memory.caches:
            cache.copy_(torch.full(cache.shape, left))
        steps = Stepper(executor)
        running = [steps.sequence(PROMPT[:count]) for count in (60, 35, 9, 2)]
        steps.step([(one, len(one.prompt)) for one in running])
        for _ in range(10):
            steps.step([(one, 1) for one in running])
        outputs.append([one.output for one in running])
    assert outputs[1] == outputs[0]


def test_twice_or_four_times_the_tokens_fit(folder: Path) -> None:
    blocks = {
        cache: make_executor(
            folder, kv_cache_dtype=cache, kv_cache_memory_bytes=200_000
        ).info.num_kv_blocks
        for cache in (KVCacheDtype.AUTO, *FORMATS)
    }
    own = blocks[KVCacheDtype.AUTO]
    assert blocks[KVCacheDtype.BFLOAT16] in (2 * own, 2 * own + 1)
    assert 4 * own <= blocks[KVCacheDtype.FP8] <= 4 * own + 3


def test_what_is_too_large_for_float8_saturates() -> None:
    cache = torch.zeros(2, 8, 2, 1, 2, dtype=torch.uint8).view(torch.float8_e4m3fn)
    kv = torch.tensor([[[[1e6, -1e6]], [[0.5, torch.inf]]]])
    stored = write_kv_cache(cache, kv, torch.tensor([11]))
    expected = torch.tensor([[[[448.0, -448.0]], [[0.5, 448.0]]]])
    assert torch.equal(stored, expected)
    assert torch.equal(cache.float()[1, 3], expected[0])
    assert cache.float().count_nonzero() == 4


def test_copied_blocks_hold_the_same_bits(folder: Path) -> None:
    executor = make_executor(folder, kv_cache_dtype=KVCacheDtype.FP8)
    assert isinstance(executor, TorchExecutor)
    stepper = Stepper(executor)
    generation, other = stepper.sequence(PROMPT[:16]), stepper.sequence(PROMPT[:3])
    stepper.step([(generation, 16)])
    (source,) = generation.blocks
    target = stepper.free.pop()
    executor.submit(StepBatch([other.schedule(3)], [(source, target)])).result()
    assert isinstance(executor._runner, ModelRunner)
    for cache in executor._runner.memory.caches:
        assert cache[source].float().count_nonzero() > 0
        assert torch.equal(cache.view(torch.uint8)[source], cache.view(torch.uint8)[target])


def test_the_bundled_model_still_adds_with_a_float8_cache() -> None:
    folder = resolve("builtin://demo", download_dir=None, revision=None)
    tokenizer = load_tokenizer(folder, None)
    executor = make_executor(folder, kv_cache_dtype=KVCacheDtype.FP8)
    right = 0
    sums = [(12, 34), (7, 8), (45, 54), (60, 31), (99, 1), (23, 58)]
    for a, b in sums:
        messages = [{"role": "user", "content": f"What is {a} + {b}?"}]
        stepper = Stepper(executor)
        generation = stepper.sequence(tokenizer.encode_chat(messages))
        right += str(a + b) in answer(stepper, generation, tokenizer)
    assert right >= len(sums) - 1


def answer(stepper: Stepper, generation: Generation, tokenizer: Tokenizer) -> str:
    stepper.step([(generation, len(generation.prompt))])
    while generation.output[-1] not in tokenizer.end_token_ids:
        assert len(generation.output) < 40
        stepper.step([(generation, 1)])
    return tokenizer.decode(generation.output)
