"""The contract of what shapes the scores, held with a processor that no product has: it is one file, and
host, device, packing, warm-up and scheduler take it from there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.sampling.host.sampler import Sampler
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import PENDING_TOKEN, Executor, ScheduledSequence, StepBatch
from octavo.worker.cpu.executor import TorchExecutor
from octavo.worker.gpu.profile import warm_up_gpu
from tests.support.runtime.biased_processor import Bias, BiasedParams, registered
from tests.support.runtime.checkpoints import VOCAB
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import make_executor, run_to_end

BIAS = dict.fromkeys(range(3, VOCAB, 3), 2.5)
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24, "ignore_eos": True}
KINDS: dict[str, SamplingParams] = {
    "plain": SamplingParams(**GREEDY),
    "biased": BiasedParams(**GREEDY, bias=BIAS),
    "following": BiasedParams(**GREEDY, bias=BIAS, follows_last=True),
    "both": BiasedParams(**GREEDY, bias=BIAS, repetition_penalty=1.8, presence_penalty=0.4),
}


@pytest.fixture(params=["first", "last"])
def bias(request: pytest.FixtureRequest) -> Iterator[Bias]:
    with registered(is_first=request.param == "first") as registered_bias:
        yield registered_bias


class Recorded:
    """An executor, and the token ids of every decode that was submitted to it, by sequence."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.info = executor.info
        self.decodes: dict[int, list[int]] = {}

    def submit(self, batch: StepBatch) -> Any:
        for entry in batch.entries:
            if len(entry.token_ids) == 1:
                self.decodes.setdefault(entry.sequence_id, []).append(entry.token_ids[0])
        return self._executor.submit(batch)


def generate(executor: Any, folder: Path) -> dict[str, list[int]]:
    """Two requests of each kind, at once; more than twelve blocks hold."""
    config = EngineConfig(model=str(folder), max_num_seqs=8, max_num_batched_tokens=48)
    core = EngineCore(config, executor, is_debugging=True)
    numbers = random.Random(5)  # noqa: S311
    for kind, params in [*KINDS.items(), *KINDS.items()]:
        prompt = [numbers.randrange(3, VOCAB) for _ in range(14)]
        core.add(AddRequest(f"{kind}{len(core._requests)}", prompt, params))
    outputs = run_to_end(core)
    core.add(AddRequest("end", [5, 6], SamplingParams(temperature=0.0, max_tokens=1)))
    run_to_end(core)  # with which the executor is told that all others ended
    return outputs


def test_host_and_device_shape_the_same_scores_in_the_same_order(llama: Path, bias: Bias) -> None:
    host = generate(make_executor(llama), llama)
    device = Recorded(make_gpu_executor(llama, max_num_seqs=8))
    assert generate(device, llama) == host
    assert all(len(tokens) == 24 for tokens in host.values())
    assert sum(token % 3 == 0 for token in host["biased1"]) > 12, "the bias decides nothing"
    assert sum(token % 3 == 0 for token in host["plain0"]) < 12


def test_the_order_is_that_of_the_one_list(llama: Path) -> None:
    outputs = []
    for is_first in (True, False):
        with registered(is_first=is_first):
            outputs.append(generate(make_executor(llama), llama))
    assert outputs[0]["both3"] != outputs[1]["both3"], "order decides nothing here"
    assert outputs[0]["biased1"] == outputs[1]["biased1"]


def test_whoever_waits_for_its_token_is_never_scheduled_behind_it_and_others_are(
    llama: Path, bias: Bias
) -> None:
    executor = Recorded(make_gpu_executor(llama, max_num_seqs=8))
    generate(executor, llama)
    waiting = {2, 6}
    for sequence_id, tokens in executor.decodes.items():
        assert len(tokens) == 23
        assert (PENDING_TOKEN not in tokens) == (sequence_id in waiting)


def test_what_is_kept_of_a_sequence_goes_with_it_also_when_it_is_preempted(
    llama: Path, bias: Bias
) -> None:
    expected = generate(make_gpu_executor(llama, max_num_seqs=8), llama)
    tight = make_gpu_executor(llama, max_num_seqs=8, num_blocks=12)
    assert generate(tight, llama) == expected
    on_device = bias.on_devices[-1]
    assert len(on_device.shaped) > 24
    assert on_device.states == {}
    bias.num_host_sequences = 0
    host = make_executor(llama, kv_cache_memory_bytes=12 * 16 * 512 * 4)
    assert generate(host, llama) == expected
    assert bias.num_host_sequences >= 6
    assert isinstance(host, TorchExecutor)
    assert host._sampler._shaped == {}


def test_a_step_that_fails_leaves_nothing_of_its_sequences(llama: Path, bias: Bias) -> None:
    executor = make_gpu_executor(llama)
    state = SamplingState(BiasedParams(**GREEDY, bias=BIAS), None, [5], [])
    with pytest.raises(ValueError, match="the model knows"):
        executor.submit(StepBatch([ScheduledSequence(0, [VOCAB], 0, [0], state)]))
    executor.submit(StepBatch([ScheduledSequence(0, [5], 0, [0], state)]))
    with pytest.raises(ValueError, match="the model knows"):
        executor.submit(StepBatch([ScheduledSequence(0, [VOCAB], 1, [0], state)]))
    assert bias.on_devices[-1].states == {}


def test_a_pending_token_of_a_row_that_waits_for_it_is_refused(llama: Path, bias: Bias) -> None:
    executor = make_gpu_executor(llama)
    state = SamplingState(KINDS["following"], None, [5], [])
    executor.submit(StepBatch([ScheduledSequence(0, [5], 0, [0], state)]))
    with pytest.raises(ValueError, match=r"Sequence 0 .* must know that token first"):
        executor.submit(StepBatch([ScheduledSequence(0, [PENDING_TOKEN], 1, [0], state)]))


def test_warm_up_runs_its_examples_alone_and_beside_all_others(llama: Path, bias: Bias) -> None:
    executor = make_gpu_executor(llama, is_padded=False)
    warm_up_gpu(executor.runner)
    shaped = [step[0] for step in bias.on_devices[-1].shaped]
    alone = [params for params in shaped if params.repetition_penalty == 1.0]
    everything = [params for params in shaped if params.repetition_penalty != 1.0]
    assert alone
    assert {params.logprobs for params in alone} == {None}
    assert len(everything) >= 2  # a few rows, and as many as there can be
    assert all(params.top_k and params.logprobs for params in everything)
    assert len(bias.on_devices[-1].shaped[-1]) == 16
    assert bias.on_devices[-1].states == {}


def test_a_request_that_wants_nothing_is_not_looked_at(bias: Bias) -> None:
    logits = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    states = [
        SamplingState(SamplingParams(temperature=0.0), None, (), ()),
        SamplingState(BiasedParams(temperature=0.0, bias={0: 3.0}), None, (), ()),
    ]
    before = logits.clone()
    sampled = Sampler(0).sample(logits, [0, 1], states)
    assert [token.token_id for token in sampled] == [1, 0]
    assert torch.equal(logits, before)
    assert bias.num_host_sequences == 1
