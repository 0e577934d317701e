"""The executor, driven by hand, computes what transformers computes on the same weights."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.worker.cpu.executor import TorchExecutor
from octavo.worker.cpu.runner import ModelRunner
from tests.support.runtime.checkpoints import GEMMA2, VOCAB, make_checkpoint
from tests.support.runtime.stepping import Generation, Stepper, make_executor

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}

QWEN_WINDOW = {"use_sliding_window": True, "sliding_window": 23}
KINDS = ["sliding_attention", "full_attention"]

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-multi-head": ("llama", {"num_key_value_heads": 6}),
    "llama-multi-query": ("llama", {"num_key_value_heads": 1}),
    "llama-llama3-rope": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama-yarn-rope": ("llama", {"rope_parameters": YARN_ROPE}),
    "llama-linear-rope": ("llama", {"rope_parameters": LINEAR_ROPE}),
    # Large enough for the packed products of oneDNN.
    "llama-wide": ("llama", {"hidden_size": 768, "intermediate_size": 1024, "head_dim": 128}),
    "qwen3": ("qwen3", {}),
    "qwen3-tied": ("qwen3", {"tie_word_embeddings": True, "head_dim": 16}),
    "qwen2": ("qwen2", {}),
    "mistral": ("mistral", {}),
    "mistral-window": ("mistral", {"sliding_window": 23}),
    "qwen2-window": ("qwen2", {**QWEN_WINDOW, "max_window_layers": 1}),
    "qwen3-window": ("qwen3", {**QWEN_WINDOW, "layer_types": [*KINDS, KINDS[0]]}),
    "mixtral": ("mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "gemma2": ("gemma2", GEMMA2),
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """transformers' model and our executor on one checkpoint."""
    torch.set_num_threads(1)
    family, changes = MODELS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    if changes.get("hidden_size") == 768:
        changes = {**changes, "initializer_range": 0.05}
    reference = make_checkpoint(folder, family, **changes)
    return reference, make_executor(folder)


def prompts_of(*lengths: int) -> list[list[int]]:
    numbers = random.Random(sum(lengths))  # noqa: S311
    return [[numbers.randrange(3, VOCAB) for _ in range(length)] for length in lengths]


def reference_tokens(reference: Any, generation: Generation) -> list[int]:
    count = len(generation.prompt)
    output = reference.generate(
        torch.tensor([generation.prompt]),
        attention_mask=torch.ones(1, count, dtype=torch.int64),
        max_new_tokens=len(generation.output),
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return list(output[0, count:].tolist())


def test_ragged_batches_with_chunked_prefill_give_the_same_tokens(pair: Any) -> None:
    reference, executor = pair
    stepper = Stepper(executor)
    a, b, c, d, e, f = (stepper.sequence(p) for p in prompts_of(1, 5, 16, 17, 40, 120))
    stepper.step([(a, 1), (b, 5), (e, 13)])
    stepper.step([(a, 1), (e, 27), (b, 1), (c, 16), (f, 33)])
    stepper.step([(f, 80), (d, 17), (a, 1), (e, 1), (b, 1), (c, 1)])
    stepper.step([(d, 1), (f, 7)])
    for _ in range(24):
        stepper.step([(g, 1) for g in (f, a, c, e, b, d)])
    for generation in (a, b, c, d, e, f):
        expected = reference_tokens(reference, generation)
        assert generation.output == expected
        assert len(set(expected)) > 5, "a constant output would prove nothing"


def test_logits_of_prefill_chunks_and_decode_are_close(pair: Any) -> None:
    reference, executor = pair
    assert isinstance(executor, TorchExecutor)
    tokens = prompts_of(70)[0]
    with torch.no_grad():
        expected = reference(torch.tensor([tokens])).logits[0]
    stepper = Stepper(executor)
    generation = stepper.sequence(tokens)
    for count in (3, 16, 29, 21, 1):  # the last token alone: a decode over 69 cached ones
        scheduled = generation.schedule(count)
        probe = stepper.sequence(tokens[: generation.computed + count])
        probe.computed, probe.blocks = generation.computed, generation.blocks
        logits = executor._runner.run(
            [scheduled if scheduled.sampling else probe.schedule(count)]
        ).logits
        generation.computed += count
        assert logits is not None
        torch.testing.assert_close(
            logits[0], expected[generation.computed - 1], rtol=1e-3, atol=2e-3
        )


def test_preempted_sequence_goes_on_unchanged(pair: Any) -> None:
    reference, executor = pair
    stepper = Stepper(executor)
    victim, other = (stepper.sequence(p) for p in prompts_of(21, 9))
    stepper.step([(victim, 21), (other, 9)])
    for _ in range(6):
        stepper.step([(victim, 1), (other, 1)])
    victim.forget()
    for _ in range(4):
        stepper.step([(other, 1)])
    stepper.step([(victim, 28), (other, 1)])  # 21 of the prompt and 7 generated
    for _ in range(6):
        stepper.step([(victim, 1), (other, 1)])
    assert victim.output == reference_tokens(reference, victim)
    assert other.output == reference_tokens(reference, other)


def test_chunk_that_does_not_reach_the_end_samples_nothing(pair: Any) -> None:
    _, executor = pair
    stepper = Stepper(executor)
    generation = stepper.sequence(prompts_of(12)[0])
    assert stepper.step([(generation, 5)]) == []
    assert len(stepper.step([(generation, 7)])) == 1


def test_nan_in_another_sequences_blocks_stays_there(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_checkpoint(tmp_path)
    executor = make_executor(tmp_path)
    assert isinstance(executor, TorchExecutor)
    stepper = Stepper(executor)
    stepper.free = [block for block in stepper.free if block > 1]  # 0 and 1 are someone else's
    short, long = (stepper.sequence(p) for p in prompts_of(20, 100))
    stepper.step([(short, 20), (long, 100)])
    used = {*short.blocks, *long.blocks}
    assert isinstance(executor._runner, ModelRunner)
    for cache in executor._runner.memory.caches:
        for block in range(cache.shape[0]):
            if block not in used:
                cache[block] = torch.nan
    # Padded to the longer context; in this step the padding must not be another's NaN.
    logits = executor._runner.run([short.schedule(1), long.schedule(1)]).logits
    assert logits is not None
    assert not logits.isnan().any()
