"""The engine's loop while nothing runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import zmq

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.loop import EngineLoop
from octavo.errors import DeviceFaultError
from octavo.worker.batch import Heartbeat
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor


def test_an_idle_engine_asks_the_other_nodes_again_and_again_and_ends_with_them(
    tmp_path: Path,
) -> None:
    torch.set_num_threads(1)
    make_checkpoint(tmp_path)
    executor, left = make_gpu_executor(tmp_path), [1, 2, 3]

    def beat() -> None:
        left.pop()
        if not left:
            raise DeviceFaultError("rank 1 of 2 on node 1 is gone")

    executor._info = dataclasses.replace(executor.info, heartbeat=Heartbeat(0.01, beat))
    config = EngineConfig(model=str(tmp_path))
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        loop = EngineLoop(EngineCore(config, executor), socket, config)
        with pytest.raises(DeviceFaultError, match="on node 1 is gone"):
            loop.run()
