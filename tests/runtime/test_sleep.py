"""A model that sleeps lends its memory, and answers as before when it wakes."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo import LLM, SamplingParams
from octavo.errors import (
    InvalidConfigurationError,
    InvalidParameterError,
    ModelAsleepError,
    ModelInvalidError,
)
from octavo.resident_memory import resident_bytes
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import StepBatch
from octavo.worker.gpu.parked_weights import storages_of
from tests.support.runtime.checkpoints import VOCAB, make_checkpoint, save_word_tokenizer
from tests.support.runtime.eagle_heads import ReferenceHead
from tests.support.runtime.encoders import make_encoder, write_modules
from tests.support.runtime.gpu_path import Overlapped, greedy, make_gpu_executor, sequences
from tests.support.runtime.rank_processes import rank_pids

GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, logprobs=2)
PROMPTS: list[Any] = [[(31 * i + i * i) % 90 for i in range(40)], [5, 6, 7]]
LEVELS = (1, 2)


def save_model(folder: Path, family: str, **changes: Any) -> None:
    make_checkpoint(folder, family, **changes)
    save_word_tokenizer(folder)


def start(folder: Path, **options: Any) -> LLM:
    defaults = {"dtype": "float32", "device": "cpu", "kv_cache_memory": 2**22}
    return LLM(str(folder), **{**defaults, "enable_sleep_mode": True, **options})


def guesses_of(folder: Path, method: str) -> dict[str, Any]:
    """The model itself, or a head that knows nothing."""
    if method == "draft_model":
        return {"method": method, "model": str(folder)}
    width = json.loads((folder / "config.json").read_text())["hidden_size"]
    head = ReferenceHead("qwen3", num_watched=2, vocab_size=VOCAB, hidden_size=width)
    head.save(folder / "head", eagle_aux_hidden_state_layer_ids=[0, 1])
    return {"method": method, "model": str(folder / "head")}


def guessed(llm: LLM) -> tuple[int, int]:
    """Guesses since the start, and those that came true."""
    stats = llm.stats
    accepted = stats.spec_decode_accepted_tokens_per_position
    return stats.spec_decode_draft_tokens_total, sum(accepted)


def answers(llm: LLM) -> list[Any]:
    completions = [output.outputs[0] for output in llm.generate(PROMPTS, GREEDY)]
    return [(one.token_ids, one.logprobs) for one in completions]


def tokens_of(answers: list[Any]) -> list[Any]:
    """How many rows a step has is in the last digits of log-probabilities, and steps with guesses differ."""
    return [token_ids for token_ids, _ in answers]


@pytest.mark.parametrize(
    ("family", "options", "method"),
    [
        ("llama", {"quantization": "int8"}, "draft_model"),
        ("gpt_neox", {"model_impl": "transformers"}, ""),
        ("qwen3", {"tensor_parallel_size": 2}, "eagle3"),
    ],
    ids=["rounded", "generic", "shared"],
)
def test_answers_are_the_same_after_sleep_of_each_level(
    family: str, options: dict[str, Any], method: str, tmp_path: Path
) -> None:
    """And guesses come true as before: who made them slept, too."""
    save_model(tmp_path, family)
    if method:
        options = options | {"speculative_config": guesses_of(tmp_path, method)}
    others = set(rank_pids(os.getpid()))
    with start(tmp_path, **options) as llm:
        assert llm._core is not None
        llm._core._stopwatch = lambda: 0.0  # guesses seem to cost nothing
        hopeful = copy.deepcopy(llm._core._speculation)
        pids = set(rank_pids(os.getpid())) - others
        expected = answers(llm)
        for level in LEVELS:
            llm._core._speculation = copy.deepcopy(
                hopeful
            )  # a head that knows nothing rests by now
            before = guessed(llm)
            hits = llm.stats.prefix_cache_hit_tokens_total
            llm.sleep(level)
            assert llm.stats.sleep_level == level
            with pytest.raises(ModelAsleepError, match="wake_up"):
                llm.generate([[1, 2]], GREEDY)
            llm.wake_up()
            assert llm.stats.sleep_level == 0
            found = answers(llm)
            assert found == expected or (method and tokens_of(found) == tokens_of(expected))
            assert llm.stats.prefix_cache_hit_tokens_total == hits, "its prefixes went with it"
            tried, accepted = (b - a for a, b in zip(before, guessed(llm), strict=True))
            assert tried > 0 or not method
            assert accepted > 0.5 * tried or method != "draft_model"  # it is not rounded
        assert pids <= set(rank_pids(os.getpid()))


def test_an_encoder_sleeps_too(tmp_path: Path) -> None:
    make_encoder(tmp_path, "bert")
    write_modules(tmp_path, {"pooling_mode_mean_tokens": True})
    prompts = [[3, 9, 10, 4], [3, *range(5, 40), 4]]
    with start(tmp_path) as llm:
        expected = [one.embedding for one in llm.embed(prompts)]
        for level in LEVELS:
            llm.sleep(level)
            llm.wake_up()
            assert [one.embedding for one in llm.embed(prompts)] == expected


def test_weights_and_cache_are_given_back_to_the_system(tmp_path: Path) -> None:
    """Also those of what guesses, here the model itself. The cache's memory counts where it was written to:
    prompts fill it."""
    sizes = {"hidden_size": 384, "intermediate_size": 2048, "num_hidden_layers": 2}
    heads = {"num_key_value_heads": 6, "head_dim": 64}
    save_model(tmp_path, "llama", **sizes, **heads)
    weights = 2 * sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    cache = 12 * 2**20
    draft = guesses_of(tmp_path, "draft_model")
    with start(tmp_path, kv_cache_memory=cache, speculative_config=draft) as llm:
        once = SamplingParams(max_tokens=1)
        llm.generate([[(7 * i + k) % 90 for i in range(200)] for k in range(12)], once)
        awake = resident_bytes()
        llm.sleep(1)
        without_cache = resident_bytes()
        llm.sleep(2)
        without_weights = resident_bytes()
        llm.wake_up()
        assert awake - without_cache > 0.7 * cache
        assert without_cache - without_weights > 0.7 * weights
        # Some of what it is read into may have been the process's own all the time.
        assert resident_bytes() - without_weights > 0.3 * weights
        assert len(answers(llm)) == len(PROMPTS)


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    save_model(tmp_path, "llama")
    with start(tmp_path, enable_sleep_mode=False) as llm:
        error = pytest.raises(InvalidConfigurationError, match=r"enable_sleep_mode is False")
        with error:
            llm.sleep()
    with start(tmp_path) as llm:
        for level in (0, 3, True, 1.0, "1", "deep"):
            with pytest.raises(InvalidParameterError, match=r"level is .*; use 1 .* or 2"):
                llm.sleep(level)  # type: ignore[arg-type]
        expected = answers(llm)
        for level in (1, 2, 1):
            llm.sleep(level)
        assert llm.stats.sleep_level == 2, "what was dropped is not there again"
        (weights,) = tmp_path.glob("*.safetensors")
        elsewhere = weights.rename(tmp_path / "elsewhere")
        with pytest.raises(ModelInvalidError):
            llm.wake_up()
        with pytest.raises(ModelAsleepError):
            llm.generate([[1, 2]], GREEDY)
        elsewhere.rename(weights)
        llm.wake_up()
        llm.wake_up()
        assert answers(llm) == expected


@pytest.mark.parametrize(
    ("family", "level"),
    [("mixtral", SleepLevel.KEEP_WEIGHTS), ("llama", SleepLevel.DROP_WEIGHTS)],
)
def test_weights_of_the_gpus_path_leave_the_device_and_come_back(
    family: str, level: SleepLevel, tmp_path: Path
) -> None:
    """With the device's kernels in torch."""
    torch.set_num_threads(1)
    reference = make_checkpoint(tmp_path, family)
    executor = make_gpu_executor(tmp_path)
    if level is SleepLevel.KEEP_WEIGHTS:
        held = storages_of(executor.runner.model)
        of_reference = sum(one.nbytes for one in reference.parameters())
        assert sum(one.nbytes() for one in held) >= of_reference
        executor.sleep(level)
        assert sum(one.nbytes() for one in held if one.resizable()) == 0
        executor.wake_up()
    executor.sleep(level)
    with pytest.raises(RuntimeError, match="sleeps"):
        executor.submit(StepBatch([]))
    executor.wake_up()
    steps = Overlapped(executor)
    running = sequences(1, 16)
    steps.submit([(s, len(s.prompt)) for s in running])
    for _ in range(12):
        steps.submit([(s, 1) for s in running])
    steps.take()
    for sequence in running:
        assert sequence.output == greedy(reference, sequence)
