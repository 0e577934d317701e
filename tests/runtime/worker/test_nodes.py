"""Two nodes on one loopback interface, the first led from here: how they end, and why."""

from __future__ import annotations

import os
import signal
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from octavo.config import Device, EngineConfig, NodePlace
from octavo.errors import DeviceFaultError, InvalidConfigurationError, OctavoError
from octavo.model_source import resolve
from octavo.worker.ranks.meeting import Meeting
from octavo.worker.ranks.messages import Word
from octavo.worker.ranks.node import run_node
from octavo.worker.ranks.spread_team import SpreadTeam, word_key
from octavo.worker.start.create import create_executor
from tests.support.runtime.rank_processes import has_ended, own_loopback, rank_pids

TIMEOUT = 30


@pytest.fixture
def place() -> NodePlace:
    address = own_loopback()
    with socket.create_server((address, 0)) as listener:
        port = listener.getsockname()[1]
    return NodePlace(num_nodes=2, node_rank=0, master_addr=address, master_port=port)


def config_of(place: NodePlace, rank: int, **options: Any) -> EngineConfig:
    values: dict[str, Any] = {
        "model": str(resolve("builtin://demo", download_dir=None, revision=None)),
        "device": Device.CPU,
        "dtype": "float32",
        "kv_cache_memory_bytes": 4 * 2**20,
        "tensor_parallel_size": 2,
        "distributed_timeout_seconds": TIMEOUT,
    }
    own = NodePlace(
        num_nodes=place.num_nodes,
        node_rank=rank,
        master_addr=place.master_addr,
        master_port=place.master_port,
    )
    return EngineConfig(**values | options, place=own)


def start_other(pool: ThreadPoolExecutor, place: NodePlace, **options: Any) -> Future[None]:
    """Node 1, whose ranks are processes as always."""
    config = config_of(place, 1, **options)
    assert config.place is not None
    return pool.submit(run_node, config, config.place, threading.Event(), 0.0)


def failure(future: Future[None]) -> BaseException:
    error = future.exception(120)
    assert error is not None
    return error


def test_what_differs_is_the_users_error_on_both_nodes(place: NodePlace) -> None:
    with ThreadPoolExecutor() as pool:
        other = start_other(pool, place, block_size=32)
        with pytest.raises(InvalidConfigurationError, match=r"differ in block_size: 32 and 16"):
            create_executor(config_of(place, 0))
        error = failure(other)
    assert isinstance(error, InvalidConfigurationError)
    assert "differ in block_size: 32 and 16" in str(error)


def test_a_node_that_never_comes_is_named(place: NodePlace) -> None:
    with pytest.raises(OctavoError) as caught:
        create_executor(config_of(place, 0, distributed_timeout_seconds=1))
    assert str(caught.value) == (
        "Node 1 of 2 with rank 1 of 2 did not come within 1 s (--distributed-timeout-seconds)."
    )


def test_a_first_node_that_is_not_there_is_the_users_error(
    place: NodePlace, capfd: pytest.CaptureFixture[str]
) -> None:
    where = f"{place.master_addr}:{place.master_port}"
    with pytest.raises(InvalidConfigurationError, match=f"^Node 0 is not found at {where} after 1"):
        Meeting.find(place, 1.0)
    assert capfd.readouterr().err == ""
    nowhere = NodePlace(num_nodes=2, node_rank=1, master_addr="no.invalid", master_port=1)
    with pytest.raises(InvalidConfigurationError, match=r"^master_addr is no\.invalid, which has"):
        Meeting.find(nowhere, 1.0)


def test_ranks_that_only_lost_each_other_are_named(place: NodePlace) -> None:
    """As where what one node sends does not arrive, and what the other sends does."""
    meeting = Meeting.open(place, TIMEOUT)
    team = SpreadTeam(meeting, (), (2, 3), lambda rank: f"rank {rank} of 4 on node 1", TIMEOUT)
    for rank in (2, 3):
        meeting.post(word_key(rank), Word(message=None))
    assert str(team.failure("a socket's words")).startswith(
        "rank 2 of 4 on node 1 and rank 3 of 4 on node 1 lost another rank as this one did, and none"
    )


@pytest.mark.parametrize("end", ["killed", "hung"])
def test_a_rank_of_another_node_is_named_on_both_when_it_ends(place: NodePlace, end: str) -> None:
    others = set(rank_pids(os.getpid()))
    with ThreadPoolExecutor() as pool:
        node = start_other(pool, place)
        executor = create_executor(config_of(place, 0))
        (pid,) = set(rank_pids(os.getpid())) - others
        heartbeat = executor.info.heartbeat
        assert heartbeat is not None
        heartbeat.beat()
        os.kill(pid, signal.SIGKILL if end == "killed" else signal.SIGSTOP)
        with pytest.raises(DeviceFaultError) as caught:
            heartbeat.beat()
        error = failure(node)
    why = "was ended by SIGKILL." if end == "killed" else f"did not answer within {TIMEOUT} s"
    for message in (str(caught.value), str(error)):
        assert message.startswith("rank 1 of 2 on node 1 (127.0.0.1) " + why)
    assert has_ended(pid)
