"""Ranks, a process each: the engine's tokens are those of one, and the end of one is that of all."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import zmq

from octavo import LLM
from octavo.config import Device, EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.loop import EngineLoop
from octavo.engine.messages import AddRequest
from octavo.errors import DeviceFaultError, InvalidConfigurationError, OctavoError
from octavo.loading.adapter import read_adapter
from octavo.sampling_params import SamplingParams
from octavo.speculative_config import SpeculativeConfig, SpeculativeMethod
from octavo.worker.batch import Executor
from octavo.worker.cpu import executor
from octavo.worker.cpu.step_memory import StepMemory
from octavo.worker.ranks import gathering
from octavo.worker.ranks.messages import Assignment, MeetingFile
from octavo.worker.ranks.team import Member
from tests.support.runtime.adapters import save_adapter
from tests.support.runtime.checkpoints import GEMMA2
from tests.support.runtime.eagle_heads import ReferenceHead
from tests.support.runtime.encoders import make_encoder, write_modules
from tests.support.runtime.rank_answers import (
    Answers,
    answers_of,
    assert_same,
    executor_of,
    save_model,
)
from tests.support.runtime.rank_processes import has_ended, rank_pids
from tests.support.runtime.stepping import run_to_end

MOE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 30}
KINDS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "gemma2": ("gemma2", 2, GEMMA2),
    "llama": ("llama", 4, {}),
    "qwen2_moe": ("qwen2_moe", 2, MOE | {"shared_expert_intermediate_size": 50}),
    "qwen3": ("qwen3", 2, {"tie_word_embeddings": True}),
}


# Who guesses: the model itself, a head that knows nothing, or else who has the answers.
GUESSED = {"llama": SpeculativeMethod.DRAFT_MODEL, "qwen3": SpeculativeMethod.EAGLE3}


@dataclass
class Shared:
    """A model that processes share; the last test of the module may end them."""

    folder: Path
    adapter: Path
    executor: Executor
    pids: list[int]


def share_model(work: Path, kind: str) -> Shared:
    family, size, changes = KINDS[kind]
    folder, adapter, head = (work / name for name in ("model", "adapter", "head"))
    model = save_model(folder, family, **changes)
    save_adapter(adapter, model, rank=8)
    guesses = None
    if (method := GUESSED.get(kind)) is SpeculativeMethod.DRAFT_MODEL:
        guesses = SpeculativeConfig(method=method, model=str(folder))
    elif method is not None:
        ReferenceHead("qwen3", num_watched=2, vocab_size=321).save(
            head, drop=("embed_tokens.weight",), eagle_aux_hidden_state_layer_ids=[0, 1]
        )
        guesses = SpeculativeConfig(method=method, model=str(head))
    others = rank_pids(os.getpid())
    shared = executor_of(folder, size, guesses)
    pids = [pid for pid in rank_pids(os.getpid()) if pid not in others]
    assert len(pids) == size - 1
    return Shared(folder, adapter, shared, pids)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return share_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.mark.parametrize("kind", ["gemma2", "qwen2_moe"])
def test_two_ranks_answer_as_one_does(kind: str, tmp_path: Path) -> None:
    assert assert_same_answers(share_model(tmp_path, kind)).num_accepted > 50


def test_four_ranks_answer_as_one_does(llama: Shared) -> None:
    assert assert_same_answers(llama).num_accepted > 50


def test_ranks_of_an_encoder_give_its_vectors(tmp_path: Path) -> None:
    """In steps of several prompts, and after a sleep."""
    make_encoder(tmp_path, "bert")
    write_modules(tmp_path, {"pooling_mode": "mean"})
    prompts = [[3, *range(5, 5 + count), 4] for count in (9, 30, 9, 2)]

    def vectors(llm: LLM) -> torch.Tensor:
        return torch.tensor([one.embedding for one in llm.embed(prompts)])

    options: dict[str, Any] = {"dtype": "float32", "device": "cpu", "enable_sleep_mode": True}
    with LLM(str(tmp_path), **options) as llm:
        expected = vectors(llm)
    with LLM(str(tmp_path), tensor_parallel_size=2, **options) as llm:
        torch.testing.assert_close(vectors(llm), expected, rtol=1e-4, atol=1e-5)
        llm.sleep(level=2)
        llm.wake_up()
        torch.testing.assert_close(vectors(llm), expected, rtol=1e-4, atol=1e-5)


def test_an_adapter_that_another_rank_cannot_read_is_refused_and_nobody_has_it(
    llama: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rank reads it, and the others find that it is gone."""
    config = EngineConfig(model=str(llama.folder), enable_lora=True)
    core = EngineCore(config, llama.executor)
    moved = llama.adapter.with_name("moved")

    def read_and_move(folder: Path) -> Any:
        adapter = read_adapter(folder)
        llama.adapter.rename(moved)
        return adapter

    with monkeypatch.context() as patch:
        patch.setattr(executor, "read_adapter", read_and_move)
        with pytest.raises(InvalidConfigurationError, match=r"another rank .* its log says why"):
            core.adapters.load(9, str(llama.adapter))
    moved.rename(llama.adapter)
    core.adapters.load(9, str(llama.adapter))
    core.unload_adapter(9)


def assert_same_answers(shared: Shared) -> Answers:
    """With an adapter in the same batches, and again with drafts: those come true that are right."""
    expected = answers_of(shared.folder, executor_of(shared.folder, 1), shared.adapter)
    found = answers_of(shared.folder, shared.executor, shared.adapter, drafts=True)
    assert_same(found, expected)
    return found


def test_a_rank_that_is_killed_ends_an_idle_engine_and_is_named(llama: Shared) -> None:
    config = EngineConfig(model=str(llama.folder))
    core = EngineCore(config, llama.executor)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        loop = EngineLoop(core, socket, config)
        os.kill(llama.pids[1], signal.SIGKILL)
        with pytest.raises(DeviceFaultError, match=r"^rank 2 of 4 was ended by SIGKILL\."):
            loop.run()
    assert all(map(has_ended, llama.pids))
    # Who goes on, as a caller of `LLM` may, is told the same and not what the other ranks' sockets say.
    for prompt in ([5, 6, 7], [8, 9]):
        core.add(AddRequest(f"{prompt}", prompt, SamplingParams(max_tokens=3)))
        with pytest.raises(DeviceFaultError, match=r"^rank 2 of 4 was ended by SIGKILL\."):
            core.step()
        core.abort([f"{prompt}"])


def test_a_step_that_fails_on_one_rank_is_the_end_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who failed is told, not who waited for it."""
    shared = share_model(tmp_path, "qwen3")
    assert_same_answers(shared)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such row")

    monkeypatch.setattr(StepMemory, "prepare", fail)
    core = EngineCore(EngineConfig(model=str(shared.folder)), shared.executor)
    core.add(AddRequest("one", [5, 6, 7], SamplingParams(max_tokens=3)))
    with pytest.raises(DeviceFaultError, match=r"^rank 0 of 2 failed: RuntimeError: no such row$"):
        run_to_end(core)
    assert all(map(has_ended, shared.pids))
    monkeypatch.undo()
    with pytest.raises(DeviceFaultError, match=r"^rank 0 of 2 failed: RuntimeError: no such row$"):
        core.step()


def test_a_rank_that_never_comes_is_named_and_leaves_no_process(
    llama: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given no time: a process takes some to come."""
    others = rank_pids(os.getpid())
    monkeypatch.setattr(gathering, "ARRIVAL_SECONDS", 0.0)
    with pytest.raises(OctavoError, match=r"^rank 1 of 2 is not there after 0 s; its log may say"):
        executor_of(llama.folder, 2)
    assert rank_pids(os.getpid()) == others


def test_a_rank_ends_with_its_parent_while_the_group_forms(tmp_path: Path) -> None:
    save_model(tmp_path, "llama")
    config = EngineConfig(
        model=str(tmp_path),
        device=Device.CPU,
        tensor_parallel_size=2,
        distributed_timeout_seconds=3600,
    )
    meeting = os.memfd_create("ranks")
    path = MeetingFile(f"/proc/self/fd/{meeting}")
    assignment = Assignment(
        config=config, rank=1, meeting=path, num_threads=1, num_blocks=8, max_model_len=64
    )
    member = Member(1, "rank 1 of 2", meeting)
    try:
        member.send(msgspec.json.encode(assignment) + b"\n", time.monotonic() + 60)
        deadline = time.monotonic() + 120
        while not os.fstat(meeting).st_size:  # it tells where it listens, and waits for the first
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert member.process.stdin is not None
        member.process.stdin.close()
        member.process.wait(60)
    finally:
        member.end()
        os.close(meeting)


def test_ranks_of_transformers_modules_answer_and_end_with_their_llm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one process of Octavo's own code does. Nor is there a file of theirs, which would stay when all are
    killed."""
    save_model(tmp_path / "model")
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what it found before
    others = set(rank_pids(os.getpid()))
    options: dict[str, Any] = {"kv_cache_memory": 2**20, "dtype": "float32", "device": "cpu"}
    prompts = [[5, 6, 7], list(range(20, 60))]

    def tokens(llm: LLM) -> list[list[int]]:
        params = SamplingParams(temperature=0.0, max_tokens=9, n=2, ignore_eos=True)
        answers = llm.generate(prompts, params)
        return [one.token_ids for answer in answers for one in answer.outputs]

    with LLM(str(tmp_path / "model"), **options) as alone:
        expected = tokens(alone)
    shared: dict[str, Any] = {"tensor_parallel_size": 2, "model_impl": "transformers"}
    with LLM(str(tmp_path / "model"), **options, **shared) as llm:
        (pid,) = set(rank_pids(os.getpid())) - others
        assert not list(temporary.iterdir())
        assert tokens(llm) == expected
    assert has_ended(pid)
