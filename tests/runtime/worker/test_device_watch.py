"""What is noticed beside a wait for a GPU, and how a group is tested before it is trusted."""

from __future__ import annotations

import os
import socket
import threading

import pytest
import torch

from octavo.errors import OctavoError
from octavo.layers.ranks import Ranks
from octavo.worker.ranks.commands import Kind, pack_command
from octavo.worker.ranks.device_group import DeviceRanks, check_group, settings_for
from octavo.worker.ranks.device_watch import DeviceWatch, FaultWatch
from octavo.worker.ranks.frames import LENGTH_BYTES, frames_beside
from octavo.worker.ranks.group import GroupRanks
from octavo.worker.ranks.interface import interface_of
from octavo.worker.ranks.messages import MeetingFile, MeetingPoint
from tests.support.runtime.rank_threads import on_ranks

CPU = torch.device("cpu")


class Waits:
    """Ends as those for a GPU do, when nothing more will come."""

    def __init__(self, seconds: float) -> None:
        self.life, self.death = os.pipe()
        self.ended = threading.Event()
        self.watch = DeviceWatch((self.life,), seconds, self.ended.set)

    def close(self) -> None:
        self.watch.close()
        os.close(self.life)


def test_a_process_that_ends_ends_a_wait() -> None:
    waits = Waits(3600.0)
    with waits.watch.over():
        assert waits.watch.check()
        os.close(waits.death)
        assert waits.ended.wait(60)
    assert waits.watch.has_lost
    assert not waits.watch.check()
    waits.close()


def test_what_a_wait_left_behind_is_no_result_though_the_thread_has_not_looked() -> None:
    waits = Waits(3600.0)
    os.close(waits.death)
    assert not waits.watch.check()
    assert waits.ended.is_set()
    waits.close()


def test_a_wait_that_takes_too_long_ends_and_others_do_not() -> None:
    waits = Waits(0.05)
    with waits.watch.over(3600.0):
        assert not waits.ended.wait(0.3)
    assert not waits.ended.wait(0.3), "nothing is waited for"
    with waits.watch.over():
        assert waits.ended.wait(60)
    waits.close()
    os.close(waits.death)


def test_a_watch_that_is_closed_looks_at_no_descriptor_and_lets_work_go_on() -> None:
    waits = Waits(3600.0)
    waits.close()
    waits.watch.close()
    os.close(waits.death)
    with waits.watch.over():
        assert not waits.watch.check(), "whoever asks is not told that all is well"
    assert not waits.ended.is_set()


def test_a_gpu_that_failed_is_told_of_once_its_step_is_asked_for() -> None:
    told: list[Exception] = []
    has_told = threading.Event()

    def tell(error: Exception) -> None:
        told.append(error)
        has_told.set()

    class Done:
        def query(self) -> bool:
            return True

    class Failed:
        def query(self) -> bool:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    watch = FaultWatch(tell)
    watch.follow(Done())
    watch.follow(Failed())
    assert has_told.wait(60)
    assert [str(error) for error in told] == ["CUDA error: unspecified launch failure"]


def test_ranks_whose_numbers_arrive_as_they_were_sent_pass() -> None:
    on_ranks(2, lambda ranks: check_group(ranks, CPU))


@pytest.mark.parametrize("way", ["all_reduce", "gather", "from_first"])
def test_a_way_between_ranks_that_changes_numbers_is_refused(way: str) -> None:
    """As direct copies between GPUs do where an IOMMU stands between them."""

    class Damaging:
        size = 2

        def __init__(self, ranks: Ranks) -> None:
            self._ranks = ranks
            self.rank = ranks.rank

        def all_reduce(self, partial: torch.Tensor) -> torch.Tensor:
            return self._damaged("all_reduce", self._ranks.all_reduce(partial))

        def gather(self, part: torch.Tensor) -> list[torch.Tensor] | None:
            parts = self._ranks.gather(part)
            return None if parts is None else [self._damaged("gather", one) for one in parts]

        def from_first(self, values: torch.Tensor) -> None:
            self._ranks.from_first(values)
            self._damaged("from_first", values)

        def _damaged(self, name: str, values: torch.Tensor) -> torch.Tensor:
            if name == way:
                values[len(values) // 2] = 0.5
            return values

    with pytest.raises(OctavoError, match=r"rank \d of 2 gets wrong numbers.*NCCL_P2P_DISABLE=1"):
        on_ranks(2, lambda ranks: check_group(Damaging(ranks), CPU))


def test_an_interface_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == interface_of("127.3.2.1") == "lo"
    assert interface_of("192.0.2.7") is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # no packet is sent
        except OSError:
            return  # this machine has no other
        own = probe.getsockname()[0]
    assert interface_of(own) in {name for _, name in socket.if_nameindex()} - {"lo"}


def test_sockets_stay_on_the_network_where_ranks_met_unless_told_otherwise() -> None:
    name = "NCCL_SOCKET_IFNAME"
    point = MeetingPoint("127.0.0.2", 29501, "127.0.0.1")
    for meeting in (MeetingFile("x"), point):
        assert settings_for(meeting, {})[name] == "=lo"
        assert name not in settings_for(meeting, {name: "eth"})
    elsewhere = MeetingPoint("192.0.2.1", 29501, "192.0.2.7")
    assert name not in settings_for(elsewhere, {}), "no interface has that address"


def test_gpus_exchange_as_cpus_do() -> None:
    """By the calls that NCCL gets, of which Gloo knows the same."""

    def check(ranks: Ranks) -> None:
        assert isinstance(ranks, GroupRanks)
        check_group(DeviceRanks(ranks._group, ranks.rank, ranks.size), CPU)

    on_ranks(2, check)


class Quit(BaseException):
    """Ends the thread, as the process would end."""


def test_who_is_told_to_quit_does_so_beside_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    has_quit = threading.Event()

    def quit_now() -> None:
        has_quit.set()
        raise Quit

    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as commands, os.fdopen(writing, "wb", buffering=0) as pipe:
        next_frame = frames_beside(commands, quit_now)
        for kind in (Kind.STEP, Kind.QUIT):
            frame = pack_command(kind, b"step")
            pipe.write(len(frame).to_bytes(LENGTH_BYTES, "little") + frame)
        assert has_quit.wait(60)
        assert next_frame(1.0) == pack_command(Kind.STEP, b"step")
