"""Decodes that run again without Python give the same bits, and those that cannot stay as they are."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.config import Quantization
from octavo.models.hidden_states import FixedStates
from octavo.worker.batch import Executor
from octavo.worker.cpu.executor import TorchExecutor
from octavo.worker.cpu.runner import ModelRunner
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import GEMMA2, VOCAB, make_checkpoint
from tests.support.runtime.stepping import Stepper, make_executor

needs_module(Requirement.NUMBA)

from octavo.kernels import cpu
from octavo.kernels.cpu.compiling.program import Program
from octavo.worker.cpu.repeated_steps import RepeatedSteps

WIDE = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
REPEATED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "float32": ("qwen3", {}, {"dtype": "float32"}),
    "int8": ("qwen3", {}, {"dtype": "bfloat16", "quantization": Quantization.INT8}),
    "int4": ("llama", {}, {"dtype": "bfloat16", "quantization": Quantization.INT4}),
    "window": ("mistral", {"sliding_window": 23}, {"dtype": "float32"}),
    "another gate": ("gemma2", {**GEMMA2, "head_dim": 32}, {"dtype": "float32"}),
    "float32 norms": (
        "gemma3",
        {"tie_word_embeddings": False},
        {"dtype": "bfloat16", "quantization": Quantization.INT8},
    ),
    "biases": ("qwen2", {"num_attention_heads": 2, "num_key_value_heads": 1}, {"dtype": "float32"}),
}
NOT_REPEATED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "experts": ("mixtral", {"num_local_experts": 4}, {"dtype": "float32"}),
    "layer norms": ("phi", {}, {"dtype": "float32"}),
}


def memory_of(executor: Executor) -> Any:
    assert isinstance(executor, TorchExecutor)
    assert isinstance(executor._runner, ModelRunner)
    return executor._runner.memory


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each step that ran without Python."""
    done: list[int] = []
    run = Program.run

    def counted(program: Program) -> None:
        done.append(1)
        run(program)

    monkeypatch.setattr(Program, "run", counted)
    return done


def stepped(executor: Any) -> list[list[int]]:
    """A day of decodes: two and then three sequences, one of which ends and comes back, over several blocks;
    in another order than their contexts'; a prompt between them."""
    numbers = random.Random(7)  # noqa: S311
    prompts = [[numbers.randrange(3, VOCAB) for _ in range(n)] for n in (3, 29, 14, 6)]
    stepper = Stepper(executor)
    a, b, c, d = map(stepper.sequence, prompts)
    stepper.step([(a, 3), (b, 29)])
    for _ in range(20):
        stepper.step([(a, 1), (b, 1)])
    stepper.step([(a, 1), (c, 14), (b, 1)])
    for _ in range(6):
        stepper.step([(c, 1), (b, 1), (a, 1)])
    b.forget()
    for _ in range(4):
        stepper.step([(c, 1), (a, 1)])
    stepper.step([(b, len(b.prompt) + len(b.output)), (d, 6)])
    for _ in range(5):
        stepper.step([(d, 1), (b, 1), (c, 1), (a, 1)])
    return [one.output for one in (a, b, c, d)]


@pytest.mark.parametrize("name", REPEATED)
def test_repeated_steps_give_the_same_tokens(name: str, tmp_path: Path, runs: list[int]) -> None:
    family, changes, options = REPEATED[name]
    make_checkpoint(tmp_path, family, **{**WIDE, **changes})
    plain = make_executor(tmp_path, **options)
    memory_of(plain)._repeats = None
    expected = stepped(plain)
    executor = make_executor(tmp_path, **options)
    runs.clear()  # those of the warm-up
    assert stepped(executor) == expected
    assert len(set(expected[1])) > 5, "a constant output would prove nothing"
    # Of 35 steps of decodes alone, the first of three and of four rows are recorded.
    assert len(runs) == 35 - 2


def test_steps_of_a_model_that_a_head_watches_are_repeated_with_what_it_reads(
    tmp_path: Path, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path, "qwen3", **WIDE)
    found: list[tuple[list[list[int]], list[torch.Tensor]]] = []
    for fixed in (None, FixedStates(torch.empty(64, 2 * 64), cpu)):
        executor: Any = make_executor(tmp_path)
        memory_of(executor)._repeats = None if fixed is None else RepeatedSteps()
        runner, read = executor._runner, list[torch.Tensor]()
        states, run = runner.model.watch((0, 1), fixed), runner.run

        def watched(batch: Any, run: Any = run, states: Any = states, read: Any = read) -> Any:
            result = run(batch)
            read.append(states.take(len(result.inputs.token_ids)).clone())
            return result

        monkeypatch.setattr(runner, "run", watched)
        runs.clear()
        found.append((stepped(executor), read))
    (expected, states_alone), (tokens, states_repeated) = found
    assert tokens == expected
    assert len(runs) == 35 - 3  # of two rows, too, the first is recorded
    for alone, repeated in zip(states_alone, states_repeated, strict=True):
        assert torch.equal(alone, repeated)


@pytest.mark.parametrize("name", NOT_REPEATED)
def test_what_cannot_be_repeated_stays_as_it_is(name: str, tmp_path: Path, runs: list[int]) -> None:
    family, changes, options = NOT_REPEATED[name]
    make_checkpoint(tmp_path, family, **{**WIDE, **changes})
    plain = make_executor(tmp_path, **options)
    memory_of(plain)._repeats = None
    assert stepped(make_executor(tmp_path, **options)) == stepped(plain)
    assert not runs


def test_a_recording_that_does_something_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path, "qwen3", **WIDE)
    plain = make_executor(tmp_path)
    memory_of(plain)._repeats = None
    expected = stepped(plain)
    executor = make_executor(tmp_path)
    monkeypatch.setattr(Program, "run", lambda _: None)
    assert stepped(executor) == expected
    assert memory_of(executor)._repeats._is_off


def test_a_step_that_spoilt_its_numbers_is_repeated_as_well(
    tmp_path: Path, runs: list[int]
) -> None:
    """NaN equals itself where two ways are compared."""
    make_checkpoint(tmp_path, "qwen3", **WIDE)
    executor = make_executor(tmp_path)
    runs.clear()  # those of the warm-up
    for cache in memory_of(executor).caches:
        cache.fill_(float("nan"))
    stepper = Stepper(executor)
    one = stepper.sequence([5, 6, 7])
    one.computed = 2  # the cache's numbers stand for two tokens
    for _ in range(4):
        stepper.step([(one, 1)])
    assert len(runs) == 4
