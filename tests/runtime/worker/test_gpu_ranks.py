"""Two ranks, a process each, on the execution path of GPUs: their tokens are those of one, and the end of one
is that of both."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from msgspec.structs import replace

from octavo.config import Device, EngineConfig, NodePlace
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.errors import DeviceFaultError
from octavo.sampling_params import SamplingParams
from octavo.sleep_level import SleepLevel
from octavo.speculative_config import SpeculativeConfig, SpeculativeMethod
from octavo.worker.batch import BASE_MODEL, Executor
from octavo.worker.ranks.node import run_node
from octavo.worker.start.create import create_executor
from octavo.worker.start.draft import plan_drafter
from octavo.worker.start.phases import cache_block_bytes
from octavo.worker.start.plan import plan_start
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.adapters import save_adapter
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.eagle_heads import ReferenceHead
from tests.support.runtime.gpu_path import Running, make_gpu_executor
from tests.support.runtime.quantised_checkpoints import (
    SHAPE,
    Tensors,
    awq_tensors,
    is_product,
    quantise_checkpoint,
    round_to_grid,
)
from tests.support.runtime.rank_answers import NUM_BLOCKS, answers_of, assert_same, save_model
from tests.support.runtime.rank_processes import own_loopback, rank_pids
from tests.support.runtime.stepping import run_to_end
from tests.support.runtime.two_layer_models import run

needs_module(Requirement.TRITON)
from tests.support.runtime.gpu_ranks import COLD, FAULT, gpu_path_of_ranks, has_room


def config_of(folder: Path, **options: Any) -> EngineConfig:
    values: dict[str, Any] = {
        "device": Device.CPU,
        "dtype": "float32",
        "tensor_parallel_size": 2,
        "kv_cache_memory_bytes": 2**20,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 40,
    }
    return EngineConfig(model=str(folder), **values | options)


def two_ranks(folder: Path, **options: Any) -> Executor:
    return create_executor(config_of(folder, **options))


def start_and_find(folder: Path, **options: Any) -> tuple[Executor, int]:
    others = set(rank_pids(os.getpid()))
    executor = two_ranks(folder, **options)
    (pid,) = set(rank_pids(os.getpid())) - others
    return executor, pid


def told(running: list[Running]) -> list[object]:
    return [
        (one.output, [token.top_token_ids for token in one.tokens], one.scored) for one in running
    ]


def test_ranks_answer_as_one_and_wake_as_they_slept(tmp_path: Path) -> None:
    """From the profile's place on all that a start does, with decodes at recorded sizes."""
    save_model(tmp_path, "qwen3", tie_word_embeddings=True)
    config = EngineConfig(model=str(tmp_path), device=Device.CPU)
    spec = plan_start(config).model.spec.on_rank(2)
    memory = NUM_BLOCKS * cache_block_bytes(config, spec, torch.float32)
    expected = answers_of(
        tmp_path, make_gpu_executor(tmp_path, num_blocks=NUM_BLOCKS, max_num_seqs=6)
    )
    with gpu_path_of_ranks("reference"):
        ngrams = SpeculativeConfig(method=SpeculativeMethod.NGRAM)
        executor, pid = start_and_find(
            tmp_path, kv_cache_memory_bytes=memory, max_num_seqs=6, speculative_config=ngrams
        )
        assert executor.info.is_asynchronous
        assert executor.info.num_kv_blocks == NUM_BLOCKS
        found = answers_of(tmp_path, executor, drafts=True)
        assert_same(found, expected)
        assert found.num_accepted > 20
        core = EngineCore(replace(config, enable_sleep_mode=True), executor)
        before = answer(core)
        for level in SleepLevel:
            core.sleep(level)
            core.wake_up()
            assert answer(core) == before
        os.kill(pid, signal.SIGKILL)
        for prompt in ([5, 6, 7], [8, 9]):  # who goes on is told the same
            core.add(AddRequest(f"{prompt}", prompt, SamplingParams(max_tokens=3)))
            with pytest.raises(DeviceFaultError, match=r"^rank 1 of 2 was ended by SIGKILL\."):
                run_to_end(core)
            core.abort([f"{prompt}"])


def test_what_guesses_for_ranks_changes_no_answer(tmp_path: Path) -> None:
    """The first rank alone has it: the model itself, or a head that knows nothing. Beside adapters, of which
    it knows nothing either, and where sequences lose their blocks; and after all have slept."""
    torch.set_num_threads(1)
    folder, adapter, head = (tmp_path / name for name in ("model", "adapter", "head"))
    save_adapter(adapter, save_model(folder, "qwen3"), rank=3)
    ReferenceHead("qwen3", num_watched=2, vocab_size=321).save(
        head, drop=("embed_tokens.weight",), eagle_aux_hidden_state_layer_ids=[0, 1]
    )
    alone = make_gpu_executor(folder, num_blocks=NUM_BLOCKS, max_num_seqs=6, max_loras=1)
    expected = answers_of(folder, alone, adapter)
    for method, draft, least in (
        (SpeculativeMethod.DRAFT_MODEL, folder, 60),
        (SpeculativeMethod.EAGLE3, head, 0),
    ):
        guesses = SpeculativeConfig(method=method, model=str(draft), num_speculative_tokens=4)
        with gpu_path_of_ranks(COLD):
            executor = two_ranks(
                folder,
                kv_cache_memory_bytes=NUM_BLOCKS * block_bytes(folder, guesses),
                max_num_seqs=6,
                speculative_config=guesses,
                enable_lora=True,
                max_loras=1,
            )
            assert executor.info.num_kv_blocks == NUM_BLOCKS
            found = answers_of(folder, executor, adapter, drafts=True)
            sleeping = config_of(folder, speculative_config=guesses, enable_sleep_mode=True)
            core = EngineCore(sleeping, executor)
            core._stopwatch = lambda: 0.0
            before = answer(core)
            for level in SleepLevel:
                core.sleep(level)
                core.wake_up()
                tried = core.stats().spec_decode_draft_tokens_total
                assert answer(core) == before
                assert core.stats().spec_decode_draft_tokens_total > tried
            del core
        gc.collect()  # with the executor its process ends
        assert_same(found, expected)
        assert found.num_accepted >= least


def block_bytes(folder: Path, guesses: SpeculativeConfig) -> int:
    """On the first of two ranks, with what guesses."""
    config = EngineConfig(model=str(folder), device=Device.CPU, speculative_config=guesses)
    plan = plan_start(config)
    drafts = plan_drafter(config, plan)
    assert drafts is not None
    own = cache_block_bytes(config, plan.model.spec.on_rank(2), torch.float32)
    return own + drafts.beside(config).block_bytes


def answer(core: EngineCore) -> dict[str, list[int]]:
    core.add(AddRequest("one", list(range(20)), SamplingParams(temperature=0.0, max_tokens=6)))
    return run_to_end(core)


def experts(folder: Path) -> tuple[Path, Any]:
    """Of an odd width, which makes 20 for one and 19 for the other; and a key head that both have."""
    sizes = {
        "intermediate_size": 39,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
    }
    model = make_checkpoint(
        folder / "model", "mixtral", num_hidden_layers=2, num_local_experts=3, **sizes
    )
    return folder / "model", model


def quantised(folder: Path) -> tuple[Path, Any]:
    def awq(name: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if not is_product(name):
            return None
        grid = round_to_grid(weight, 4, 32)
        return awq_tensors(grid), grid.dequantize()

    model = make_checkpoint(folder / "plain", "llama", num_hidden_layers=2, **SHAPE)
    config = {"quant_method": "awq", "bits": 4, "group_size": 32}
    quantise_checkpoint(folder / "plain", folder / "quantised", awq, config)
    return folder / "quantised", model


@pytest.mark.parametrize(
    ("save", "kernels"),
    [(experts, "experts"), (quantised, "triton")],
    ids=["mixtral", "awq"],
)
def test_tritons_kernels_on_two_ranks_give_the_tokens_of_one(
    save: Any, kernels: str, tmp_path: Path
) -> None:
    """Two of the three sequences with an adapter, which both ranks read."""
    torch.set_num_threads(1)
    folder, model = save(tmp_path)
    save_adapter(tmp_path / "adapter", model, rank=3)

    def answers(executor: Any) -> list[Running]:
        executor.add_adapter(9, str(tmp_path / "adapter"))
        return run(executor, adapter_ids=(9, BASE_MODEL, 9))

    expected = answers(make_gpu_executor(folder, max_num_seqs=4, max_loras=1))
    with gpu_path_of_ranks(kernels):
        found = answers(two_ranks(folder, enable_lora=True))
    gc.collect()  # torch ends a group by its file's name, which is a number that others may get
    assert told(found) == told(expected)
    plain = run(make_gpu_executor(folder, max_num_seqs=4))
    assert [told(found)[i] == told(plain)[i] for i in range(3)] == [False, True, False]


def test_nodes_take_the_least_room_and_name_the_gpu_that_fails(tmp_path: Path) -> None:
    """Two nodes on one loopback interface, this process with both of them. On the first the model guesses for
    itself, whole, in the same blocks."""
    save_model(tmp_path)
    address = own_loopback()
    with socket.create_server((address, 0)) as listener:
        port = listener.getsockname()[1]
    places = [
        NodePlace(num_nodes=2, node_rank=rank, master_addr=address, master_port=port)
        for rank in range(2)
    ]
    guesses = SpeculativeConfig(method=SpeculativeMethod.DRAFT_MODEL, model=str(tmp_path))
    options: dict[str, Any] = {
        "kv_cache_memory_bytes": None,
        "distributed_timeout_seconds": 600,
        "speculative_config": guesses,
    }
    configs = [config_of(tmp_path, place=place, **options) for place in places]
    spec = plan_start(configs[0]).model.spec.on_rank(2)
    block = cache_block_bytes(configs[0], spec, torch.float32)
    faults = {FAULT: "7"}  # tokens of a step, as many as none of the start has
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        stack.enter_context(has_room(40 * (block + 2 * block)))
        stack.enter_context(gpu_path_of_ranks("reference"))
        stack.enter_context(mock.patch.dict(os.environ, faults))
        stack.enter_context(has_room(30 * block))  # the other node's
        node = pool.submit(run_node, configs[1], places[1], threading.Event(), 0.0)
        executor = create_executor(configs[0])
        assert executor.info.num_kv_blocks == 30
        core = EngineCore(configs[0], executor)
        alone = replace(configs[0], speculative_config=None)
        expected = answer(EngineCore(alone, make_gpu_executor(tmp_path, max_num_seqs=4)))
        assert answer(core) == expected
        core.add(AddRequest("lost", list(range(7)), SamplingParams(max_tokens=3)))
        with pytest.raises(DeviceFaultError) as caught:
            run_to_end(core)
        error = node.exception(60)
    why = "failed: AcceleratorError: CUDA error: an illegal memory access was encountered"
    for message in (str(caught.value), str(error)):
        assert message == f"rank 1 of 2 on node 1 (127.0.0.1) {why}"
