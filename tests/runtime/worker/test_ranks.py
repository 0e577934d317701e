"""Ranks, a process each: the engine's tokens are those of one, and the end of one is that of all."""

from __future__ import annotations

import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import zmq

from octavo import LLM
from octavo.config import Device, EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.engine.process import EngineLoop
from octavo.errors import DeviceFaultError, OctavoError
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import Executor
from octavo.worker.cpu.step_memory import StepMemory
from octavo.worker.ranks import start
from octavo.worker.start.phases import cache_block_bytes
from octavo.worker.start.plan import plan_start
from tests.support.runtime.checkpoints import GEMMA2
from tests.support.runtime.rank_answers import NUM_BLOCKS, answers_of, assert_same, save_model
from tests.support.runtime.rank_processes import has_ended, rank_pids
from tests.support.runtime.stepping import make_executor, run_to_end

MOE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 30}
KINDS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "gemma2": ("gemma2", 2, GEMMA2),
    "gpt_neox": ("gpt_neox", 2, {}),
    "llama": ("llama", 4, {}),
    "qwen2_moe": ("qwen2_moe", 2, MOE | {"shared_expert_intermediate_size": 50}),
    "qwen3": ("qwen3", 2, {"tie_word_embeddings": True}),
}


def executor_of(folder: Path, size: int, **changes: object) -> Executor:
    config = EngineConfig(model=str(folder), device=Device.CPU)
    spec = plan_start(config).model.spec.on_rank(size)
    memory = NUM_BLOCKS * cache_block_bytes(config, spec, torch.float32)
    return make_executor(folder, tensor_parallel_size=size, kv_cache_memory_bytes=memory, **changes)


@dataclass
class Shared:
    """A model that processes share; the last test of the module may end them."""

    folder: Path
    executor: Executor
    pids: list[int]


def share_model(folder: Path, kind: str) -> Shared:
    family, size, changes = KINDS[kind]
    save_model(folder, family, **changes)
    others = rank_pids(os.getpid())
    executor = executor_of(folder, size)
    pids = [pid for pid in rank_pids(os.getpid()) if pid not in others]
    assert len(pids) == size - 1
    return Shared(folder, executor, pids)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return share_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.mark.parametrize("kind", ["gemma2", "gpt_neox", "qwen2_moe"])
def test_two_ranks_answer_as_one_does(kind: str, tmp_path: Path) -> None:
    assert_same_answers(share_model(tmp_path, kind))


def test_four_ranks_answer_as_one_does(llama: Shared) -> None:
    assert_same_answers(llama)


def assert_same_answers(shared: Shared) -> None:
    expected = answers_of(shared.folder, executor_of(shared.folder, 1))
    assert_same(answers_of(shared.folder, shared.executor), expected)


def test_a_rank_that_is_killed_ends_an_idle_engine_and_is_named(llama: Shared) -> None:
    core = EngineCore(EngineConfig(model=str(llama.folder)), llama.executor)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        loop = EngineLoop(core, socket)
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
    core = EngineCore(EngineConfig(model=str(tmp_path)), shared.executor)
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
    monkeypatch.setattr(start, "ARRIVAL_SECONDS", 0.0)
    with pytest.raises(OctavoError, match=r"^rank 1 of 2 is not there after 0 s; its log may say"):
        executor_of(llama.folder, 2)
    assert rank_pids(os.getpid()) == others


def test_ranks_end_with_their_llm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is there a file of theirs, which would stay when all are killed."""
    save_model(tmp_path / "model")
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what it found before
    others = set(rank_pids(os.getpid()))
    with LLM(
        str(tmp_path / "model"), tensor_parallel_size=2, kv_cache_memory=2**20, dtype="float32"
    ) as llm:
        (pid,) = set(rank_pids(os.getpid())) - others
        assert not list(temporary.iterdir())
        params = SamplingParams(temperature=0.0, max_tokens=3)
        assert len(llm.generate([[5, 6, 7]], params)[0].outputs[0].token_ids) == 3
    assert has_ended(pid)
