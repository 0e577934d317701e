"""Process group of the ranks by torch.distributed's Gloo: what they tell each other, and on CPUs their sums.
GPUs have one of their own beside it (`octavo.worker.ranks.device_group`).

The group is an object of its own, not torch's global one: a process may hold several models, and whoever
uses `LLM` may have a group already. Ranks of one machine meet by a file and talk over the loopback; nothing
listens beyond it. Those of several meet in the first node's store and listen on its network.
"""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch._C._distributed_c10d import PrefixStore, TCPStore

from octavo.errors import OctavoError
from octavo.worker.ranks.messages import MeetingFile, MeetingPoint

_LOOPBACKS = ("127.0.0.1", "::1")
_PREFIX = "group"
_LENGTH_BYTES = 8
# Decodes of a few hundred sequences; what is longer takes another message.
_FIRST_BYTES = 2**13


class RankLostError(OctavoError):
    """Another rank is gone, or did not come in time; nothing can be done together any more."""


class GroupRanks:
    """See `Ranks`. What fails in here fails for good: the others wait for what never comes.

    Args:
        group: A backend of torch.distributed.
    """

    def __init__(self, group: Any, rank: int, size: int) -> None:
        self._group = group
        self._rank = rank
        self._size = size
        self._to_first = distributed.GatherOptions()
        self._to_first.rootRank = 0

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def size(self) -> int:
        return self._size

    def all_reduce(self, partial: torch.Tensor) -> torch.Tensor:
        _wait(self._group.allreduce, [partial])
        return partial

    def broadcast(self, frame: bytes | None, timeout_seconds: float | None = None) -> bytes:
        """The first rank's frame, on all of them; the others give None, and wait so long for it."""
        options = distributed.BroadcastOptions()
        if timeout_seconds is not None:
            options.timeout = timedelta(seconds=timeout_seconds)
        first = torch.zeros(_FIRST_BYTES, dtype=torch.uint8)
        room = _FIRST_BYTES - _LENGTH_BYTES
        if frame is not None:
            head = len(frame).to_bytes(_LENGTH_BYTES, "little") + frame[:room]
            first[: len(head)] = torch.frombuffer(bytearray(head), dtype=torch.uint8)
        _wait(self._group.broadcast, [first], options)
        if frame is None:
            data = first.numpy().tobytes()
            length = int.from_bytes(data[:_LENGTH_BYTES], "little")
            frame = data[_LENGTH_BYTES : _LENGTH_BYTES + length]
        else:
            length = len(frame)
        if length <= room:
            return frame
        rest = torch.zeros(length - room, dtype=torch.uint8)
        if self._rank == 0:
            rest[:] = torch.frombuffer(bytearray(frame[room:]), dtype=torch.uint8)
        _wait(self._group.broadcast, [rest], distributed.BroadcastOptions())
        return frame if self._rank == 0 else frame + rest.numpy().tobytes()

    def meet(self, timeout_seconds: float) -> None:
        """Returns when all ranks have come here."""
        self.least(0, timeout_seconds)

    def least(self, number: int, timeout_seconds: float) -> int:
        """The smallest number that a rank has."""
        options = distributed.AllreduceOptions()
        options.reduceOp = distributed.ReduceOp.MIN
        options.timeout = timedelta(seconds=timeout_seconds)
        numbers = torch.tensor([number])
        _wait(self._group.allreduce, [numbers], options)
        return int(numbers.item())

    def from_first(self, values: torch.Tensor) -> None:
        _wait(self._group.broadcast, [values], distributed.BroadcastOptions())

    def gather(self, part: torch.Tensor) -> list[torch.Tensor] | None:
        if self._rank:
            _wait(self._group.gather, [], [part], self._to_first)
            return None
        parts = [torch.empty_like(part) for _ in range(self._size)]
        _wait(self._group.gather, [parts], [part], self._to_first)
        return parts


def _wait(collective: Any, *arguments: object) -> None:
    try:
        collective(*arguments).wait()
    except RuntimeError as error:
        raise RankLostError(str(error).splitlines()[0]) from error


def join_group(
    rank: int,
    size: int,
    *,
    meeting: MeetingFile | MeetingPoint,
    timeout_seconds: float,
) -> GroupRanks:
    """Returns when all ranks are there.

    Args:
        timeout_seconds: That a rank waits for the others, here and in each of its calls.

    Raises `RankLostError` when they do not come in time.
    """
    timeout = timedelta(seconds=timeout_seconds)
    try:
        store, address = meeting_store(meeting, size, timeout)
        named = PrefixStore(_PREFIX, store)
        return GroupRanks(_gloo(named, rank, size, timeout, address), rank, size)
    except RuntimeError as error:
        raise RankLostError(str(error).splitlines()[0]) from error


def meeting_store(
    meeting: MeetingFile | MeetingPoint, size: int, timeout: timedelta
) -> tuple[Any, str]:
    """Where the ranks meet, with the address that a rank listens on."""
    if isinstance(meeting, MeetingFile):
        file = distributed.FileStore(meeting.path, size)  # type: ignore[attr-defined] # documented
        file.set_timeout(timeout)
        return file, _loopback()
    store = TCPStore(meeting.address, meeting.port, timeout=timeout, wait_for_workers=False)
    return store, meeting.own_address


def _loopback() -> str:
    """The first that this machine has: one of version 6 of IP alone may lack the other."""
    for address in _LOOPBACKS:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.bind((address, 0))
        except OSError:
            continue
        return address
    raise RankLostError(f"this machine has neither of {' and '.join(_LOOPBACKS)}")


def _gloo(store: Any, rank: int, size: int, timeout: timedelta, address: str) -> Any:
    # torch's own names for a group that listens where it is told to; there are no public ones.
    gloo: Any = distributed.ProcessGroupGloo
    options = gloo._Options()  # noqa: SLF001
    options._devices = [gloo.create_device(hostname=address)]  # noqa: SLF001
    options._timeout = timeout  # noqa: SLF001
    return gloo(store, rank, size, options)
