"""Ranks on the execution path of a GPU, where there is none: real processes, pipes and groups, kernels that
run on CPU tensors, and Gloo, as the device that is there decides.

Both processes are made so: the test's own within `gpu_path_of_ranks`, the others at their start, for
`PYTHONPATH` names the folder `gpu_ranks_site` then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from octavo.config import EngineConfig
from octavo.kernels.gpu import device as triton_kernels
from octavo.kernels.gpu.tuning import chips
from octavo.kernels.packed_step import Packer
from octavo.kernels.reference import device as reference
from octavo.worker.gpu.following import FollowingRunner
from octavo.worker.gpu.step_outline import StepOutline
from octavo.worker.ranks import gathering, start
from octavo.worker.ranks.on_gpus import GpuPath
from octavo.worker.start import plan
from tests.support.kernels.interpreter import interpreted_kernels
from tests.support.runtime.gpu_engine import left_out

SOME = {
    "experts": (
        "route_to_experts",
        "group_by_expert",
        "experts_gate_up",
        "experts_down",
        "combine_experts",
        "adapter_shrink",
        "adapter_expand",
    ),
}
COLD = "cold reference"
KIND, FAULT, ROOM = "OCTAVO_TEST_KERNELS", "OCTAVO_TEST_FAULT", "OCTAVO_TEST_ROOM"
_TOTAL_BYTES = 2**29
_SPARE_BYTES = 2**28  # that a profile sets aside
_ROOT = Path(__file__).parents[3]


@contextmanager
def gpu_path_of_ranks(kind: str) -> Iterator[None]:
    """Here, and in the ranks that are started within.

    Args:
        kind: `reference`, `triton`, or of Triton's kernels `SOME`. They are interpreted, which takes so long
            that what only warms up is left out; so it is of `COLD`, the reference.
    """
    folders = (
        str(Path(__file__).with_name("gpu_ranks_site")),
        str(_ROOT),
        os.environ.get("PYTHONPATH", ""),
    )
    named = {KIND: kind, "PYTHONPATH": os.pathsep.join(folders)}
    with mock.patch.dict(os.environ, named), ExitStack() as stack:
        enter(kind, stack)
        yield


def enter(kind: str, stack: ExitStack) -> None:
    kernels: Any = reference
    if kind != "reference":
        left_out(stack)
    if kind not in ("reference", COLD):
        kernels = triton_kernels
        stack.enter_context(interpreted_kernels())
        # Of an H100's programs most would find nothing to do.
        stack.enter_context(mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", 8))
    if kind in SOME:  # the others take most of the time
        own = {name: getattr(triton_kernels, name) for name in SOME[kind]}
        kernels = SimpleNamespace(**vars(reference) | own)
    for name, answer in _memory(int(os.environ.get(ROOM, "0"))).items():
        stack.enter_context(mock.patch.object(torch.cuda, name, return_value=answer))
    path = GpuPath(kernels, lambda: _called)
    for module in (start, gathering):
        stack.enter_context(mock.patch.object(module, "gpu_path", return_value=path))
    stack.enter_context(mock.patch.object(plan, "kernels_for", return_value=kernels))


def has_room(num_bytes: int) -> mock._patch_dict:
    """Of GPUs whose profile leaves so much for the KV cache, in processes that are started within."""
    return mock.patch.dict(os.environ, {ROOM: str(num_bytes)})


def _memory(room: int) -> dict[str, Any]:
    """What torch says of a GPU that has so much room, weights and steps taking none."""
    others = int(_TOTAL_BYTES * EngineConfig(model="").gpu_memory_share) - _SPARE_BYTES - room
    return {
        "mem_get_info": (_TOTAL_BYTES - others, _TOTAL_BYTES),
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "reset_peak_memory_stats": None,
        "synchronize": None,
    }


def _called(work: Callable[[], None]) -> Callable[[], None]:
    """In place of recording: each replay runs the step."""
    return work


def fail_at(num_tokens: int) -> None:
    """In a rank that follows, as a GPU that is lost under a step of so many tokens."""
    run = FollowingRunner.run

    def run_or_fail(runner: FollowingRunner, outline: StepOutline, packer: Packer) -> Any:
        if outline.num_tokens == num_tokens:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return run(runner, outline, packer)

    FollowingRunner.run = run_or_fail  # type: ignore[assignment, method-assign]
