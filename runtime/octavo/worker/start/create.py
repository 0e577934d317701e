"""Start of an executor: device, checks, weights, KV cache and warm-up, in this order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial

import torch

from octavo.config import EngineConfig
from octavo.kernels.protocols.device import DeviceKernels
from octavo.models.base import EncoderConfig
from octavo.worker import machine
from octavo.worker.batch import Executor
from octavo.worker.compile_ahead import CompilingAhead, compiling_ahead
from octavo.worker.cpu.executor import start_host_executor
from octavo.worker.ranks.start import create_shared_executor
from octavo.worker.start.draft import (
    DrafterPlan,
    beside,
    loaded_on_gpu_with,
    loaded_with,
    plan_drafter,
    size_cache_with,
)
from octavo.worker.start.encoder import encoder_of, plan_encoder
from octavo.worker.start.gpu_fit import check_gpu_generation, check_gpu_memory
from octavo.worker.start.phases import PhaseTimer
from octavo.worker.start.plan import StartPlan, plan_start, translated_load_errors

Start = Callable[[PhaseTimer], Executor]
"""What follows the load: sizes the KV cache where that is not done yet, and warms up."""


def create_executor(
    config: EngineConfig, on_phase: Callable[[str], None] = lambda _: None
) -> Executor:
    """Loads the model, sizes the KV cache and warms up.

    Args:
        config: `config.model` is a resolved folder.
        on_phase: Called as each phase starts: load, profile, warmup; on a GPU compile follows load where
            kernels are compiled ahead, and capture comes last.

    Raises `ModelInvalidError`, `ModelUnsupportedError`, `OutOfMemoryError` or
    `InvalidConfigurationError`.
    """
    phase = PhaseTimer(on_phase)
    if config.tensor_parallel_size > 1:
        return create_shared_executor(config, phase)
    encoder = encoder_of(config)
    if encoder is not None:
        return _create_encoder(config, encoder, phase)
    with ExitStack() as stack:
        ahead = None
        with phase("load"):
            plan = plan_start(config)
            drafts = plan_drafter(plan.config, plan)
            if plan.device.type == "cpu":
                start = _load_on_cpu(plan, drafts)
            else:
                _check_gpu(plan, drafts)
                ahead = stack.enter_context(_compiling_ahead(plan))
                start = _load_on_gpu(plan, drafts)
        if ahead is not None:
            with phase("compile"):
                ahead.wait()
    return start(phase)


def _load_on_cpu(plan: StartPlan, drafts: DrafterPlan | None) -> Start:
    threads = machine.threads_for(plan.model.num_parameters, machine.available_cpus())
    torch.set_num_threads(threads)
    size = size_cache_with(drafts, plan)
    read = partial(loaded_with, drafts, plan.config, size)
    with translated_load_errors():
        loaded = read(plan.build())
    return lambda phase: start_host_executor(
        plan.config,
        loaded,
        size,
        device=plan.device,
        dtype=plan.dtype,
        phase=phase,
        reload=lambda: read(plan.build_anew()),
        adapters=plan.adapters,
    )


def _check_gpu(plan: StartPlan, drafts: DrafterPlan | None) -> None:
    config, device = plan.config, plan.device
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    check_gpu_generation(name, capability, config.kv_cache_dtype)
    taken = beside(drafts, config)
    check_gpu_memory(config, plan.model, device, plan.dtype, plan.scheme, taken)


def _compiling_ahead(plan: StartPlan) -> AbstractContextManager[CompilingAhead | None]:
    """None for transformers' modules, whose launches are not known before they run."""
    if plan.model.is_generic:
        return nullcontext()
    return compiling_ahead(plan.config, plan.model, plan.dtype, plan.device, plan.stored)


def _load_on_gpu(plan: StartPlan, drafts: DrafterPlan | None) -> Start:
    """How large the cache is, a profile run tells when the executor starts."""
    kernels = gpu_kernels()
    read = partial(loaded_on_gpu_with, drafts, plan.config, kernels)
    with translated_load_errors():
        loaded = read(plan.build())

    def start(phase: PhaseTimer) -> Executor:
        from octavo.kernels.gpu.compiling.watch import CompileWatch
        from octavo.worker.gpu.executor import start_gpu_executor

        watch = CompileWatch()
        executor = start_gpu_executor(
            plan.config,
            loaded,
            kernels,
            device=plan.device,
            dtype=plan.dtype,
            phase=phase,
            reload=lambda: read(plan.build_anew()),
            adapters=plan.adapters,
            may_run_eager=plan.model.is_generic,
        )
        watch.serving_begins()
        return executor

    return start


def gpu_kernels() -> DeviceKernels:
    from octavo.kernels.gpu import device  # triton: not on every platform

    return device


def _create_encoder(config: EngineConfig, encoder: EncoderConfig, phase: PhaseTimer) -> Executor:
    with phase("load"):
        plan = plan_encoder(config, encoder)
        plan.check_memory()
        cores = machine.available_cpus()
        torch.set_num_threads(machine.threads_for(plan.model.num_parameters, cores))
        model = plan.build()
    return plan.start(model, phase)
