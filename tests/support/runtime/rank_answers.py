"""Answers of an engine to requests of every kind, to compare those of a model's ranks with those of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.config import Device, EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.engine.speculation.model_proposer import ModelProposer
from octavo.engine.speculation.proposal import Proposer
from octavo.engine.speculation.speculation import Speculation
from octavo.sampling_params import SamplingParams
from octavo.speculative_config import SpeculativeConfig
from octavo.structured_outputs import StructuredOutputsParams
from octavo.worker.batch import Executor
from octavo.worker.cpu.executor import TorchExecutor
from octavo.worker.gpu.drafter import DraftingRunner
from octavo.worker.gpu.executor import GpuExecutor
from octavo.worker.ranks.leading_gpu import LeadingGpuExecutor
from octavo.worker.start.draft import plan_drafter
from octavo.worker.start.phases import cache_block_bytes
from octavo.worker.start.plan import plan_start
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.generic_models import make_generic_checkpoint
from tests.support.runtime.speculating import DRAFTS, Recorded
from tests.support.runtime.stepping import make_executor
from tests.support.runtime.tokenizers_for_tests import byte_level_tokenizer, token_id

# Those that run together outgrow it.
NUM_BLOCKS = 14
LENGTH = 20
_ADAPTER = 3
_TUNED = ("two", "alone")


@dataclass
class Answers:
    """By request and index: tokens, and probabilities of those requests that asked for them."""

    tokens: dict[tuple[str, int], list[int]]
    ranked: list[list[int]]
    logprobs: list[float]
    num_preemptions: int
    num_cached: int
    num_accepted: int


def save_model(folder: Path, family: str = "llama", **changes: Any) -> Any:
    """Returns transformers' own instance of it."""
    tokenizer = byte_level_tokenizer()
    sizes: dict[str, Any] = {
        "vocab_size": 321,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "eos_token_id": token_id(tokenizer, "<eos>"),
    }
    model = make_checkpoint(folder, family, **{**sizes, **changes})
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def save_generic_model(folder: Path, model_type: str) -> Any:
    """One that runs by transformers' modules. Returns transformers' own instance of it."""
    tokenizer = byte_level_tokenizer()
    eos = token_id(tokenizer, "<eos>")
    model = make_generic_checkpoint(folder, model_type, vocab_size=321, eos_token_id=eos)
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def executor_of(
    folder: Path,
    size: int,
    guesses: SpeculativeConfig | None = None,
    **changes: object,
) -> Executor:
    """Of so many ranks, with adapters; each has room for `NUM_BLOCKS`."""
    config = EngineConfig(model=str(folder), device=Device.CPU, speculative_config=guesses)
    plan = plan_start(config)
    block_bytes = cache_block_bytes(config, plan.model.spec.on_rank(size), torch.float32)
    if (drafts := plan_drafter(config, plan)) is not None:
        block_bytes += drafts.beside(config).block_bytes
    return make_executor(
        folder,
        tensor_parallel_size=size,
        kv_cache_memory_bytes=NUM_BLOCKS * block_bytes,
        speculative_config=guesses,
        enable_lora=True,
        **changes,
    )


def waves() -> list[list[tuple[str, list[int], SamplingParams]]]:
    """Prompts of several steps, with common beginnings, of every kind of answer; then two completions that
    have the cache to themselves, and so share a block until each writes to it."""
    base = [(37 * i + i * i) % 256 for i in range(70)]
    regex = StructuredOutputsParams(regex="(ab|cd){2,4}")
    plain: dict[str, Any] = {"temperature": 0.0, "max_tokens": LENGTH, "ignore_eos": True}
    together = [
        ("long", base, SamplingParams(**plain)),
        ("two", base[5:38], SamplingParams(**plain, n=2)),
        ("scored", [*base[:48], 9, 8, 7], SamplingParams(**plain, logprobs=2, prompt_logprobs=1)),
        ("formed", base[:20], SamplingParams(temperature=0.0, structured_outputs=regex)),
        ("penalised", base[20:50], SamplingParams(**plain, presence_penalty=1.5)),
    ]
    return [together, [("alone", base[9:30], SamplingParams(**plain, n=2))]]


def answers_of(
    folder: Path, executor: Executor, adapter: Path | None = None, *, drafts: bool = False
) -> Answers:
    """
    Args:
        adapter: Of requests that are the same as others but for it; None: the executor takes none.
        drafts: All is asked again with drafts, and answered as before: those of the executor's model where it
            has one.
    """
    config = EngineConfig(
        model=str(folder),
        max_num_seqs=6,
        max_num_batched_tokens=40,
        enable_lora=adapter is not None,
    )
    core = EngineCore(config, executor, is_debugging=True, stopwatch=lambda: 0.0)
    if adapter is not None:
        core.adapters.load(_ADAPTER, str(adapter))
    answers = Answers({}, [], [], 0, 0, 0)
    _ask(core, answers, tunes=adapter is not None)
    answers.num_preemptions = core.stats().preemptions_total
    answers.num_cached = core.stats().prefix_cache_hit_tokens_total
    if drafts:
        again = Answers({}, [], [], 0, 0, 0)
        info = executor.info
        core._speculation = speculation = Speculation(
            _proposer(executor, answers),
            DRAFTS,
            max_drafts=info.max_drafts,
            overlaps=info.is_asynchronous,
        )
        _ask(core, again, tunes=adapter is not None)
        assert (again.tokens, again.ranked) == (answers.tokens, answers.ranked)
        assert again.logprobs == pytest.approx(answers.logprobs, abs=1e-4)
        assert speculation.counts.num_draft_tokens > sum(speculation.counts.num_accepted)
        answers.num_accepted = sum(speculation.counts.num_accepted)
    return answers


def _has_drafter(executor: Executor) -> bool:
    if isinstance(executor, TorchExecutor):
        return executor._loaded.runner.drafter is not None
    if isinstance(executor, LeadingGpuExecutor):
        executor = executor._executor
    return isinstance(executor, GpuExecutor) and isinstance(executor.runner, DraftingRunner)


def _proposer(executor: Executor, answers: Answers) -> Proposer:
    if _has_drafter(executor):
        return ModelProposer(DRAFTS)
    asked = {name: tuple(prompt) for wave in waves() for name, prompt, _ in wave}
    return Recorded(
        {
            (asked[name], index): tokens
            for (name, index), tokens in answers.tokens.items()
            if name in asked
        }
    )


def _ask(core: EngineCore, answers: Answers, *, tunes: bool) -> None:
    ends = (token_id(byte_level_tokenizer(), "<eos>"),)
    for wave in waves():
        for name, prompt, params in wave:
            core.add(AddRequest(name, prompt, params, end_token_ids=ends))
            if tunes and name in _TUNED:
                core.add(
                    AddRequest(
                        f"{name} tuned", prompt, params, end_token_ids=ends, adapter_id=_ADAPTER
                    )
                )
        while core.has_work:
            for output in core.step().outputs:
                assert output.error is None
                assert output.refusal is None
                key = (output.request_id, output.index)
                answers.tokens.setdefault(key, []).extend(output.new_token_ids)
                for place in (*(output.prompt_logprobs or []), *(output.logprobs or [])):
                    answers.ranked.append(place.token_ids)
                    answers.logprobs += place.logprobs


def assert_same(found: Answers, expected: Answers, *, tunes: bool = True) -> None:
    """
    Args:
        tunes: The adapter changes each answer that has it.
    """
    assert found.tokens == expected.tokens
    assert {len(tokens) for key, tokens in found.tokens.items() if key[0] != "formed"} == {LENGTH}
    assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    assert found.ranked == expected.ranked
    assert len(found.ranked) == 50 + LENGTH  # of its prompt all but the first, and of its answer
    assert found.num_preemptions > 0
    assert found.num_cached > 0
    tuned = {key: found.tokens[key] for key in found.tokens if key[0].endswith("tuned")}
    assert not tunes or all(
        tokens != found.tokens[name.removesuffix(" tuned"), index]
        for (name, index), tokens in tuned.items()
    )
