"""Process group of the ranks: sums and gathers by torch.distributed, Gloo on CPUs and NCCL on GPUs.

The group is an object of its own, not torch's global one: a process may hold several models, and whoever
uses `LLM` may have a group already. Ranks of one machine meet by a file and talk over the loopback; nothing
listens beyond it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from octavo.errors import OctavoError

_LOOPBACK = "127.0.0.1"


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
    rank: int, size: int, *, meeting_file: Path, device: torch.device, timeout_seconds: float
) -> GroupRanks:
    """Returns when all ranks are there.

    Args:
        meeting_file: Of this group alone; it may have no name.
        timeout_seconds: That a rank waits for the others, here and in each of its calls.

    Raises `RankLostError` when they do not come in time.
    """
    timeout = timedelta(seconds=timeout_seconds)
    store = distributed.FileStore(str(meeting_file), size)  # type: ignore[attr-defined] # documented
    store.set_timeout(timeout)
    try:
        return GroupRanks(_group(store, rank, size, device, timeout), rank, size)
    except RuntimeError as error:
        raise RankLostError(str(error).splitlines()[0]) from error


def _group(store: Any, rank: int, size: int, device: torch.device, timeout: timedelta) -> Any:
    if device.type == "cuda":
        nccl = distributed.ProcessGroupNCCL.Options()
        nccl._timeout = timeout  # noqa: SLF001
        return distributed.ProcessGroupNCCL(store, rank, size, nccl)
    # torch's own names for a group that listens where it is told to; there are no public ones.
    gloo: Any = distributed.ProcessGroupGloo
    options = gloo._Options()  # noqa: SLF001
    options._devices = [gloo.create_device(hostname=_LOOPBACK)]  # noqa: SLF001
    options._timeout = timeout  # noqa: SLF001
    return gloo(store, rank, size, options)
