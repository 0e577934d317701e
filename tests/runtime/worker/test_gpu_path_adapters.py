"""Adapters on the execution path of a GPU give what transformers gives with them merged into its weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import transformers

from octavo.kernels.reference import device as reference
from octavo.worker.batch import BASE_MODEL
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.adapters import save_adapter, targets_of
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.drawn_models import drawn_checkpoint
from tests.support.runtime.gpu_path import Overlapped, Running, greedy, make_gpu_executor, sequences
from tests.support.runtime.quantised_checkpoints import (
    SHAPE,
    Tensors,
    awq_tensors,
    is_product,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.two_layer_models import log_probabilities, run

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.tuning import chips
from tests.support.kernels.interpreter import interpreted_kernels

HALVES = ("adapter_shrink", "adapter_expand")
OF_ADAPTERS = {name: getattr(gpu, name) for name in HALVES}
# Of Triton's kernels those that adapters need; the others take most of the time.
ADAPTERS_ALONE: Any = SimpleNamespace(**vars(reference) | OF_ADAPTERS)


# One parameter for several products, in heads of their own order; experts, and a shared one with adapters.
@pytest.mark.parametrize("family", ["gpt_neox", "qwen2_moe"])
def test_adapters_of_many_ranks_take_turns_on_fewer_seats(family: str, tmp_path: Path) -> None:
    """Beside each other and the model alone, and though all their prompts begin alike."""
    torch.set_num_threads(1)
    base = tmp_path / "base"
    model = drawn_checkpoint(base, family, 0)
    last = targets_of(model)[-1]
    models = {
        0: model,
        1: save_adapter(tmp_path / "1", model, rank=3, seed=1),
        2: save_adapter(tmp_path / "2", model, rank=8, seed=2, rank_pattern={last: 20}),
        3: save_adapter(tmp_path / "3", model, seed=3, picks=lambda module: module != last),
    }
    executor = make_gpu_executor(base, max_loras=2)
    adapters = {number: tmp_path / str(number) for number in (1, 2, 3)}
    answers = serve(base, executor, model.config.vocab_size, adapters)
    for adapter_id, merged in models.items():
        own = [answer for answer in answers if answer.adapter_id == adapter_id]
        assert_as_transformers(own, merged)
    outputs = [tuple(answer.output) for answer in answers]
    assert len(set(outputs)) > len(outputs) // 2, "adapters change what is said"


def qwen3(folder: Path) -> tuple[Path, Any]:
    sizes = {"num_hidden_layers": 2, "head_dim": 16}
    return folder / "base", make_checkpoint(folder / "base", "qwen3", **sizes)


def mixtral(folder: Path) -> tuple[Path, Any]:
    experts = {"num_hidden_layers": 2, "num_local_experts": 3}
    return folder / "base", make_checkpoint(folder / "base", "mixtral", **experts)


def awq(folder: Path) -> tuple[Path, Any]:
    def store(module: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(module):
            return None
        grid = round_to_grid(weight, 4, 32)
        return awq_tensors(grid), grid.dequantize()

    make_checkpoint(folder / "plain", "llama", num_hidden_layers=2, **SHAPE)
    config = {"quant_method": "awq", "bits": 4, "group_size": 32}
    exact = quantise_checkpoint(folder / "plain", folder / "awq", store, config)
    model = transformers.AutoModelForCausalLM.from_pretrained(exact, dtype=torch.float32)
    return folder / "awq", model


@pytest.mark.parametrize("make", [qwen3, mixtral, awq])
def test_tritons_kernels_give_the_merged_models_tokens(make: Any, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    base, model = make(tmp_path)
    merged = {BASE_MODEL: model}
    for adapter_id, rank in ((1, 20), (2, 3)):
        merged[adapter_id] = save_adapter(
            tmp_path / str(adapter_id), model, rank=rank, seed=adapter_id
        )
    # Of an H100's programs most would find nothing to do.
    with interpreted_kernels(), mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", 8):
        executor = make_gpu_executor(base, kernels=ADAPTERS_ALONE, max_num_seqs=4, max_loras=2)
        for adapter_id in (1, 2):
            executor.add_adapter(adapter_id, str(tmp_path / str(adapter_id)))
        running = run(executor, adapter_ids=(1, BASE_MODEL, 2))
    for sequence in running:
        expected = log_probabilities(merged[sequence.adapter_id], sequence)
        for place, token in enumerate(sequence.tokens):
            ours = torch.tensor(token.top_logprobs)
            torch.testing.assert_close(
                ours, expected[place, token.top_token_ids], rtol=1e-3, atol=2e-3
            )
        other = log_probabilities(merged[(sequence.adapter_id + 1) % 3], sequence)
        assert (expected - other).abs().max() > 0.05, "an adapter that nobody would notice"


def counted(calls: Counter[str]) -> Any:
    def of(name: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            calls[name] += 1
            return getattr(reference, name)(*args, **named)

        return call

    names = (*HALVES, "linear_add")
    return SimpleNamespace(**vars(reference) | {name: of(name) for name in names})


def test_steps_without_adapters_launch_nothing_for_them(tmp_path: Path) -> None:
    """Recorded ones, and others; and few rows take the launches that are fused. An adapter that is not there
    fails its step alone."""
    torch.set_num_threads(1)
    base, model = qwen3(tmp_path)
    merged = save_adapter(tmp_path / "adapter", model)
    calls = Counter[str]()
    executor = make_gpu_executor(base, kernels=counted(calls), max_num_seqs=4, max_loras=1)
    executor.add_adapter(7, str(tmp_path / "adapter"))
    plain, own = sequences(9, 5)
    own.adapter_id = 7

    def calls_of(parts: list[tuple[Running, int]]) -> tuple[bool, bool]:
        calls.clear()
        steps.submit(parts)
        assert calls["adapter_shrink"] == calls["adapter_expand"]
        return calls["adapter_shrink"] > 0, calls["linear_add"] > 0

    steps = Overlapped(executor)
    assert calls_of([(plain, 9)]) == (False, False)
    assert calls_of([(plain, 1)]) == (False, True)
    assert calls_of([(own, 5), (plain, 1)]) == (True, False)
    for _ in range(6):
        assert calls_of([(plain, 1), (own, 1)]) == (True, False)
        assert calls_of([(plain, 1)]) == (False, True)
    steps.take()
    assert plain.output == greedy(model, plain)
    assert own.output == greedy(merged, own)
    assert own.output != greedy(model, own)
    for one, words in (
        (executor, r"Adapters \[3\] were not added"),
        (make_gpu_executor(base), r"Adapters \[3\] in a model that takes none"),
    ):
        before = one.runner.rows.num_used
        (lost,) = sequences(4)
        lost.sequence_id, lost.adapter_id = 100, 3
        with pytest.raises(ValueError, match=words):
            Overlapped(one).submit([(lost, 4)])
        assert one.runner.rows.num_used == before
