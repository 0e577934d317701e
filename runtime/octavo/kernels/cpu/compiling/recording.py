"""Recording of kernels. Writes down what a function does, if kernels do all of it, so that it can be done
again without Python (`program.py`): what a CUDA graph is on a GPU.

The function's numbers may differ each time, its addresses and sizes may not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from octavo.kernels.cpu.compiling.jit import TeamKernel
from octavo.kernels.cpu.compiling.program import Job, Program
from octavo.kernels.cpu.compiling.team import told

_LINE_BYTES = 64

Stages = Iterator[torch.Tensor | None]
"""A function in stages: what one makes is read by the next at the latest."""


class NotRecordableError(Exception):
    """Something else than kernels computes, which the message names."""


class Workspace:
    """Memory of what recorded functions make: all of them use the same, one at a time.

    Args:
        num_bytes: Of one stage; doubled when a stage needs more.
    """

    def __init__(self, num_bytes: int) -> None:
        self._halves = self._of(num_bytes)

    def half(self, stage: int) -> torch.Tensor:
        """Neighbouring stages have each its own."""
        return self._halves[stage % 2]

    def grow(self) -> None:
        """What was recorded keeps the memory that it knows."""
        self._halves = self._of(2 * self._halves.shape[1])

    @staticmethod
    def _of(num_bytes: int) -> torch.Tensor:
        return torch.empty((2, num_bytes), dtype=torch.uint8)


@dataclass(frozen=True, slots=True)
class Recording:
    """Args:
    result: What the last stage made, after each `run`.
    memory: What the program's addresses point to, beside the caller's.
    """

    program: Program
    result: torch.Tensor | None
    memory: torch.Tensor

    def run(self) -> None:
        self.program.run()


def run_stages(
    stages: Stages, after_each: Callable[[], None] = lambda: None
) -> torch.Tensor | None:
    """Runs them all; what the last one made."""
    result: torch.Tensor | None = None
    for made in stages:
        result = made
        after_each()
    return result


def record(function: Callable[[], Stages], workspace: Workspace) -> Recording | None:
    """Runs all stages, and writes down what they do. None: the workspace was too small, and has grown.

    Raises `NotRecordableError`; what the stages had done until then is done.
    """
    jobs: list[Job] = []

    def write_down(kernel: TeamKernel, numbers: list[int]) -> None:
        jobs.append(Job(kernel, numbers))

    watch = _Watch(workspace)
    with told(write_down), watch:
        result = run_stages(function(), watch.next_stage)
    if watch.computed:
        raise NotRecordableError(watch.computed)
    if watch.is_short:
        workspace.grow()
        return None
    return Recording(Program(jobs), result, watch.memory)


_MAKE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_LOOK = {
    "alias",
    "as_strided",
    "detach",
    "expand",
    "permute",
    "select",
    "slice",
    "split",
    "squeeze",
    "t",
    "transpose",
    "unsqueeze",
    "view",
    "_unsafe_view",
}
"""Operators of torch that compute nothing: new tensors, and views of others."""


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives new tensors their place in a workspace, and notices what torch computes.

    `computed` names the first operator that did.
    """

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.computed = ""
        self.is_short = False
        self.memory = workspace.half(0)  # a view of both
        self._workspace, self._stage, self._used = workspace, 0, 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here: else torch imports its compiler, for 150 MB and two seconds."""
        return False

    def next_stage(self) -> None:
        self._stage, self._used = self._stage + 1, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = func.overloadpacket.__name__
        made = func(*args, **(kwargs or {}))
        if name in _MAKE:
            return self._placed(made)
        if name not in _LOOK:
            self.computed = self.computed or name
        return made

    def _placed(self, made: torch.Tensor) -> torch.Tensor:
        first = self._used
        self._used += -(-made.nbytes // _LINE_BYTES) * _LINE_BYTES
        half = self._workspace.half(self._stage)
        if self._used > half.shape[0]:
            self.is_short = True
            return made
        return half[first : first + made.nbytes].view(made.dtype).view(made.shape)
