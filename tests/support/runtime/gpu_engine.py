"""`LLM` on the execution path of a GPU: what it starts is a GPU's executor on CPU tensors, whole, from the
memory's division over warm-up to recorded steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest import mock

from octavo.config import EngineConfig
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.reference import device as reference
from octavo.quantization import scheme_for
from octavo.worker.batch import Executor
from octavo.worker.gpu import prepare
from octavo.worker.gpu.executor import start_gpu_executor
from octavo.worker.start.adapters import adapters_of
from octavo.worker.start.draft import DraftModelPlan, loaded_on_gpu_with, plan_drafter
from octavo.worker.start.phases import PhaseTimer
from octavo.worker.start.plan import StartPlan, plan_start
from tests.support.runtime.gpu_path import CPU, called


@contextmanager
def started_as_on_gpus(
    kernels: DeviceKernels = reference, *, warms_up: bool = False
) -> Iterator[None]:
    """Every `LLM` that is made until it ends; `kv_cache_memory_bytes` must be given.

    Args:
        warms_up: As a start does, which takes most of one: nothing has to be compiled here.
    """

    def create(config: EngineConfig, on_phase: Callable[[str], None]) -> Executor:
        plan = as_on_gpus(kernels, plan_start(config))
        drafts = plan_drafter(config, plan)
        if isinstance(drafts, DraftModelPlan):
            drafts = dataclasses.replace(drafts, plan=as_on_gpus(kernels, drafts.plan))
        read = partial(loaded_on_gpu_with, drafts, config, kernels)
        return start_gpu_executor(
            plan.config,
            read(plan.build()),
            kernels,
            device=CPU,
            dtype=plan.dtype,
            phase=PhaseTimer(on_phase),
            reload=lambda: read(plan.build_anew()),
            new_capture=lambda: called,
            adapters=plan.adapters,
        )

    with ExitStack() as stack:
        stack.enter_context(mock.patch("octavo.worker.start.create.create_executor", create))
        if not warms_up:
            left_out(stack)
        yield


def left_out(stack: ExitStack) -> None:
    """Of starts, the steps that only warm up."""
    for name in ("warm_up_gpu", "run_largest_steps"):
        stack.enter_context(mock.patch.object(prepare, name))


def as_on_gpus(kernels: DeviceKernels, plan: StartPlan) -> StartPlan:
    """The plan with weights and adapters as a GPU's kernels read them."""
    return dataclasses.replace(
        plan,
        kernels=kernels,
        scheme=scheme_for(plan.config.quantization, kernels, plan.stored),
        adapters=adapters_of(plan.config, plan.model, kernels, plan.placement),
    )
