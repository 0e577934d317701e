"""Device group: sums and gathers of ranks on GPUs by NCCL, in the order of each GPU's own work.

Nothing here waits. What a rank queues runs when all others have queued the same, which a CUDA graph may
hold. So nothing here notices either that another rank is gone: its kernels wait for ever. Who waits for a
GPU's results has a watch beside it (`octavo.worker.ranks.device_watch`), which ends them by `abort`. Torch's
own watchdog would end the whole process, and with it the words that say which rank was lost.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch._C._distributed_c10d import PrefixStore

from octavo.environment import added_variables
from octavo.errors import InvalidConfigurationError, OctavoError
from octavo.layers.ranks import Ranks
from octavo.worker.ranks.group import RankLostError, meeting_store
from octavo.worker.ranks.interface import LOOPBACK, interface_of
from octavo.worker.ranks.messages import MeetingFile, MeetingPoint

_PREFIX = "device"
_NEVER = timedelta(days=365)
_HANDLING = "TORCH_NCCL_ASYNC_ERROR_HANDLING"
_NO_HANDLING = "0"
_INTERFACE = "NCCL_SOCKET_IFNAME"
# Long enough for what NCCL does with large sums, which is not what it does with small ones.
_PROBE_VALUES = 2**20


class DeviceRanks:
    """See `Ranks`.

    Args:
        group: NCCL's.
    """

    def __init__(self, group: Any, rank: int, size: int) -> None:
        self._group = group
        self._rank = rank
        self._size = size
        self._has_ended = False
        # On the stream that is current, which a recording holds: not on one of NCCL's own.
        self._sum = distributed.AllreduceOptions()
        self._to_first = distributed.GatherOptions()
        self._to_first.rootRank = 0
        self._from_first = distributed.BroadcastOptions()
        for options in (self._sum, self._to_first, self._from_first):
            options.asyncOp = False

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def size(self) -> int:
        return self._size

    def all_reduce(self, partial: torch.Tensor) -> torch.Tensor:
        _queue(self._group.allreduce, [partial], self._sum)
        return partial

    def gather(self, part: torch.Tensor) -> list[torch.Tensor] | None:
        if self._rank:
            _queue(self._group.gather, [], [part], self._to_first)
            return None
        parts = [torch.empty_like(part) for _ in range(self._size)]
        _queue(self._group.gather, [parts], [part], self._to_first)
        return parts

    def from_first(self, values: torch.Tensor) -> None:
        _queue(self._group.broadcast, [values], self._from_first)

    def abort(self) -> None:
        """Ends what is queued and waits for others; nothing can be done together any more. Safe to repeat,
        and from any thread."""
        if not self._has_ended:
            self._has_ended = True
            with contextlib.suppress(RuntimeError):
                self._group.abort()


def _queue(collective: Any, *arguments: object) -> None:
    try:
        work = collective(*arguments)
        if work is not None:  # of a backend that has not put it on the current stream
            work.wait()
    except RuntimeError as error:
        raise RankLostError(_words(error)) from error


def join_device_group(
    rank: int,
    size: int,
    *,
    meeting: MeetingFile | MeetingPoint,
    device: torch.device,
    timeout_seconds: float,
) -> DeviceRanks:
    """When all ranks have met (`join_group`); returns when they are connected.

    Raises `RankLostError` when they are not in time, and `OctavoError` where NCCL cannot connect them or what
    it sums is wrong.
    """
    if not distributed.is_nccl_available():
        raise InvalidConfigurationError(
            f"tensor_parallel_size is {size}, and torch {torch.__version__} has no NCCL, by which GPUs share "
            "a model. Use --tensor-parallel-size 1, or Octavo's image."
        )
    found: list[DeviceRanks] = []
    errors: list[BaseException] = []

    def connect() -> None:
        try:
            torch.cuda.set_device(device)
            store, _ = meeting_store(meeting, size, timedelta(seconds=timeout_seconds))
            with added_variables(settings_for(meeting, os.environ)):
                options = distributed.ProcessGroupNCCL.Options()
                options._timeout = _NEVER  # noqa: SLF001
                named = PrefixStore(_PREFIX, store)
                group = distributed.ProcessGroupNCCL(named, rank, size, options)
                ranks = DeviceRanks(group, rank, size)
                check_group(ranks, device)
            found.append(ranks)
        except BaseException as error:
            errors.append(error)

    # NCCL's first words to others wait for them without an end.
    thread = threading.Thread(target=connect, name="nccl", daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    if errors:
        raise _start_error(rank, size, errors[0]) from errors[0]
    if not found:
        raise RankLostError(
            f"rank {rank} of {size} is not connected with the others after {timeout_seconds:g} s by NCCL "
            "(--distributed-timeout-seconds)."
        )
    return found[0]


def check_group(ranks: Ranks, device: torch.device) -> None:
    """Each way in which ranks exchange numbers once, before any weight is trusted to it: between some GPUs
    direct copies arrive wrong, where the host's settings do not allow for them.

    Raises `OctavoError`.
    """
    rank, size = ranks.rank, ranks.size
    own = torch.arange(_PROBE_VALUES, dtype=torch.float32, device=device) % 1024 + rank
    expected = (own - rank) * size + size * (size - 1) // 2
    is_right = torch.equal(ranks.all_reduce(own.clone()), expected)
    parts = ranks.gather(own)
    if parts is not None:
        is_right &= all(torch.equal(part, own + other) for other, part in enumerate(parts))
    told = own.clone()
    ranks.from_first(told)
    is_right &= torch.equal(told, own - rank)
    if not is_right:
        raise OctavoError(
            f"rank {rank} of {size} gets wrong numbers from the others: what {device} exchanges with other "
            "devices does not arrive as it was sent. NCCL_P2P_DISABLE=1 keeps GPUs from copying directly; "
            "NCCL_DEBUG=INFO tells which way NCCL takes."
        )


def settings_for(
    meeting: MeetingFile | MeetingPoint, environment: Mapping[str, str]
) -> dict[str, str]:
    """Variables that the environment lacks; what a user has set is obeyed. Torch ends no process, and what
    GPUs tell each other over sockets stays on the loopback, or on the network where their nodes met."""
    found = {_HANDLING: _NO_HANDLING}
    name = LOOPBACK if isinstance(meeting, MeetingFile) else interface_of(meeting.own_address)
    if name is not None:
        found[_INTERFACE] = f"={name}"
    return {name: value for name, value in found.items() if name not in environment}


def _start_error(rank: int, size: int, error: BaseException) -> OctavoError:
    if isinstance(error, OctavoError) and not isinstance(error, RankLostError):
        return error
    return OctavoError(
        f"rank {rank} of {size} cannot be connected with the others by NCCL: {_words(error)} NCCL_DEBUG=INFO "
        "tells more; it needs room in /dev/shm, and between nodes the interface that NCCL_SOCKET_IFNAME "
        "names."
    )


def _words(error: BaseException) -> str:
    """All lines: the first one names a file of torch's."""
    return " ".join(str(error).split())[:600]
