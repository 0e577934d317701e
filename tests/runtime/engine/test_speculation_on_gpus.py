"""On the execution path of a GPU an engine says with drafts what it says without them, and steps overlap
while nobody guesses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from octavo import LLM, SamplingParams
from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.engine.requests.sequence import Sequence
from octavo.engine.speculation.proposal import Proposal
from octavo.engine.speculation.speculation import Speculation
from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.tuning import chips
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.reference import device as reference
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import BASE_MODEL, PendingStep, StepBatch
from tests.support.kernels.interpreter import interpreted_kernels
from tests.support.runtime.adapters import save_adapter
from tests.support.runtime.gpu_engine import started_as_on_gpus
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.speculating import (
    CASES,
    DRAFTS,
    PROMPTS,
    Recorded,
    assert_guesses_come_true_after_cached_answers,
    counts,
    guessing,
    open_llm,
    speculating,
    told,
)
from tests.support.runtime.tiny_llama import save_tiny_llama

NGRAM = {"method": "ngram", "num_speculative_tokens": DRAFTS}
SMALL: dict[str, Any] = {
    "max_num_seqs": 8,
    "max_num_batched_tokens": 48,
    "speculative_config": NGRAM,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    made = tmp_path_factory.mktemp("model")
    save_tiny_llama(made, initializer_range=0.1)  # flatter, so that draws differ
    return made


@pytest.fixture(scope="module")
def roomy(folder: Path) -> Iterator[LLM]:
    with started_as_on_gpus(), open_llm(folder, 2048, **SMALL) as llm:
        yield llm


@pytest.fixture(scope="module")
def cramped(folder: Path) -> Iterator[LLM]:
    """Blocks for about two of the sequences."""
    with started_as_on_gpus(), open_llm(folder, 160, max_model_len=112, **SMALL) as llm:
        yield llm


def core_of(llm: LLM) -> EngineCore:
    assert llm._core is not None
    return llm._core


@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_without_drafts(roomy: LLM, case: str) -> None:
    goes_on = "stop" not in case and case != "grammar"
    params = SamplingParams(**{"max_tokens": 32, "ignore_eos": goes_on} | CASES[case])
    core_of(roomy)._speculation = None
    plain = roomy.generate(PROMPTS, params)
    speculation = speculating(roomy, plain)
    assert told(roomy.generate(PROMPTS, params)) == told(plain)
    length = sum(len(one.token_ids) for output in plain for one in output.outputs)
    # The first steps of as many sequences have none: what they take is measured.
    assert sum(speculation.counts.num_accepted) > (length / 8 if length > 64 else 0)
    assert speculation.counts.num_draft_tokens > sum(speculation.counts.num_accepted)


@pytest.mark.parametrize("case", ["n", "penalties"])
def test_answers_stay_where_sequences_lose_their_blocks(
    roomy: LLM, cramped: LLM, case: str
) -> None:
    params = SamplingParams(**{"max_tokens": 48, "ignore_eos": True} | CASES[case])
    core_of(roomy)._speculation = None
    plain = roomy.generate(PROMPTS, params)
    speculation = speculating(cramped, plain)
    before = core_of(cramped).stats().preemptions_total
    assert told(cramped.generate(PROMPTS, params)) == told(plain)
    assert core_of(cramped).stats().preemptions_total > before
    assert sum(speculation.counts.num_accepted) > 0


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one layer with the same vocabulary."""
    made = tmp_path_factory.mktemp("draft")
    save_tiny_llama(made, num_hidden_layers=1, initializer_range=0.1)
    return made


@pytest.mark.parametrize("is_itself", [True, False])
def test_a_draft_model_changes_no_answer(
    roomy: LLM, folder: Path, other: Path, is_itself: bool
) -> None:
    """As its own draft a model is right, under the same random numbers too, also without a seed, and after
    both have slept."""
    config = {
        "method": "draft_model",
        "model": str(folder if is_itself else other),
        "num_speculative_tokens": DRAFTS,
    }
    options = SMALL | {
        "speculative_config": config,
        "enable_prefix_caching": False,
        "enable_sleep_mode": True,
    }
    core_of(roomy)._speculation = None
    with (
        started_as_on_gpus(warms_up=is_itself),
        open_llm(folder, 320, max_model_len=112, **options) as llm,
    ):
        core_of(llm)._stopwatch = lambda: 0.0
        cases = ("n", "unseeded") if is_itself else ("penalties",)
        for case, level in zip(cases, SleepLevel, strict=False):
            core_of(llm).sleep(level)
            core_of(llm).wake_up()
            length = 40 if is_itself else 16
            params = SamplingParams(max_tokens=length, ignore_eos=True, **CASES.get(case, {}))
            before = counts(llm)
            said = told(llm.generate(PROMPTS, params))
            if case != "unseeded":
                assert said == told(roomy.generate(PROMPTS, params))
            tried, accepted = (b - a for a, b in zip(before, counts(llm), strict=True))
            if is_itself:
                assert accepted >= max(50, 0.99 * tried)
            else:
                assert tried > accepted
        assert not is_itself or core_of(llm).stats().preemptions_total > 0


def test_a_draft_model_reads_what_it_lacks_of_cached_answers(folder: Path) -> None:
    config = {"method": "draft_model", "model": str(folder), "num_speculative_tokens": DRAFTS}
    options = SMALL | {"speculative_config": config}
    with started_as_on_gpus(), open_llm(folder, 320, **options) as llm:
        assert_guesses_come_true_after_cached_answers(llm)


def test_steps_overlap_while_nobody_guesses(roomy: LLM) -> None:
    """Where looking for guesses finds none it costs the overlap, which is soon given up."""
    core = core_of(roomy)
    clock = Clock()
    core._stopwatch = clock
    core._speculation = Speculation(Never(), DRAFTS, overlaps=True)
    submit, depths = core._executor.submit, list[int]()

    def watched(batch: StepBatch) -> PendingStep:
        depths.append(len(core._in_flight))
        clock.now += 1.0 if core._in_flight else 1.5  # the device waited for the host
        return submit(batch)

    with mock.patch.object(core._executor, "submit", watched):
        roomy.generate(
            [PROMPTS[0]], SamplingParams(temperature=0.0, max_tokens=200, ignore_eos=True)
        )
    assert depths.count(0) < 20
    assert sum(depths[-100:]) > 90


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Never:
    """A proposer that has no guess."""

    num_kinds = 1
    is_free = True

    def propose(self, sequence: Sequence) -> Proposal | None:
        return None

    def forget(self, sequence_id: int) -> None:
        pass


def test_the_kernels_of_a_gpu_say_the_same(folder: Path) -> None:
    """Interpreted, with drafts, what the reference says without: one greedily, one drawn with penalties."""
    prompts = [[5, 9, 5], [7] * 4]
    wanted = [
        SamplingParams(temperature=0.0, max_tokens=7, ignore_eos=True),
        SamplingParams(seed=5, presence_penalty=0.2, top_k=50, max_tokens=7, ignore_eos=True),
    ]
    plain = answers(make_core(folder, reference), prompts, wanted)
    with interpreted_kernels(), mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", 8):
        core = make_core(folder, gpu)
        known = {(tuple(prompts[name]), 0): tokens for name, tokens in plain.items()}
        guessing(core, Recorded(known), 8)
        assert answers(core, prompts, wanted) == plain
    stats = core.stats()
    accepted = sum(stats.spec_decode_accepted_tokens_per_position)
    assert 3 < accepted <= stats.spec_decode_draft_tokens_total


def test_adapters_say_the_same_with_drafts(tmp_path: Path) -> None:
    """Beside each other and the model alone, in one step."""
    model = save_tiny_llama(tmp_path / "model")
    core = make_core(tmp_path / "model", reference, enable_lora=True, max_loras=2, max_lora_rank=20)
    for name in (1, 2):
        save_adapter(tmp_path / str(name), model, seed=name, lora_alpha=0.5)
        core.adapters.load(name, str(tmp_path / str(name)))
    prompts = [[7] * 9] * 3
    wanted = [SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)] * 3
    plain = answers(core, prompts, wanted, has_adapters=True)
    assert len(set(map(tuple, plain.values()))) == 3
    guesses = Recorded({(tuple(prompts[0]), 0): plain[1]})
    guessing(core, guesses, 8)
    assert answers(core, prompts, wanted, has_adapters=True) == plain
    assert sum(core.stats().spec_decode_accepted_tokens_per_position) > 5


def make_core(folder: Path, kernels: DeviceKernels, **options: Any) -> EngineCore:
    executor = make_gpu_executor(
        folder,
        kernels=kernels,
        is_padded=bool(options),
        max_num_seqs=3,
        max_drafts=8,
        max_loras=options.get("max_loras", 0),
    )
    config = EngineConfig(model=str(folder), max_num_seqs=3, max_num_batched_tokens=32, **options)
    return EngineCore(config, executor)


def answers(
    core: EngineCore,
    prompts: list[list[int]],
    params: list[SamplingParams],
    *,
    has_adapters: bool = False,
) -> dict[int, list[int]]:
    for name, (prompt, wanted) in enumerate(zip(prompts, params, strict=True)):
        adapter = name if has_adapters else BASE_MODEL
        core.add(AddRequest(str(name), prompt, wanted, adapter_id=adapter))
    found: dict[int, list[int]] = {}
    while core.has_work:
        for output in core.step().outputs:
            assert output.error is None
            found.setdefault(int(output.request_id), []).extend(output.new_token_ids)
    return found
