"""What only GPUs can show of ranks: NCCL's calls, its sums in recordings, and how waits for others end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from octavo.config import Device, EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.errors import DeviceFaultError
from octavo.sampling_params import SamplingParams
from octavo.worker.gpu.cuda_graphs import CudaCapture
from octavo.worker.ranks.device_group import DeviceRanks, join_device_group
from octavo.worker.ranks.messages import MeetingFile
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import Overlapped, Running
from tests.support.runtime.rank_processes import rank_pids
from tests.support.runtime.stepping import make_executor, run_to_end

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[DeviceRanks]:
    """A group of one: NCCL connects, tests and queues as for several."""
    device = torch.device("cuda", 0)
    ranks = join_device_group(
        0, 1, meeting=MeetingFile(str(tmp_path / "group")), device=device, timeout_seconds=60.0
    )
    yield ranks
    ranks.abort()


def test_a_sum_over_ranks_is_recorded_and_replayed(alone: DeviceRanks) -> None:
    device = torch.device("cuda", 0)
    given, found = torch.zeros(512, device=device), torch.zeros(512, device=device)

    def work() -> None:
        found.copy_(alone.all_reduce(given * 2.0))

    replay = CudaCapture(device, is_shared=True)(work)
    for value in (1.0, 3.0):
        given.fill_(value)
        replay()
        torch.cuda.synchronize(device)
        assert found.tolist() == [2.0 * value] * 512


def test_a_group_that_is_ended_from_another_thread_ends_no_process(alone: DeviceRanks) -> None:
    thread = threading.Thread(target=alone.abort)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    torch.cuda.synchronize()


@needs_two
@pytest.mark.parametrize("enforce_eager", [True, False])
def test_two_gpus_answer_as_one_and_a_rank_that_is_killed_is_named(
    enforce_eager: bool, tmp_path: Path
) -> None:
    make_checkpoint(tmp_path, "qwen3", head_dim=64, num_attention_heads=4, initializer_range=0.1)
    outputs = []
    for size in (1, 2):
        executor = make_executor(
            tmp_path, device=Device.CUDA, tensor_parallel_size=size, enforce_eager=enforce_eager
        )
        running = [Running(i, list(range(3 + i, 20 + 5 * i))) for i in range(5)]
        steps = Overlapped(executor)
        steps.submit([(one, len(one.prompt)) for one in running])
        for _ in range(23):
            steps.submit([(one, 1) for one in running])
        steps.take()
        outputs.append([one.output for one in running])
    assert outputs[0] == outputs[1]
    (pid,) = rank_pids(os.getpid())
    os.kill(pid, signal.SIGKILL)
    core = EngineCore(EngineConfig(model=str(tmp_path)), executor)
    core.add(AddRequest("one", [5, 6, 7], SamplingParams(max_tokens=3)))
    with pytest.raises(DeviceFaultError, match=r"^rank 1 of 2 was ended by SIGKILL\."):
        run_to_end(core)
