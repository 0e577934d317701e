"""Start of an executor: device, checks, weights, KV cache and warm-up, in this order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch

from octavo.config import EngineConfig
from octavo.kernels.protocols.device import DeviceKernels
from octavo.models.base import EncoderConfig
from octavo.worker import machine
from octavo.worker.batch import Executor
from octavo.worker.compile_ahead import compiling_ahead
from octavo.worker.cpu.executor import start_host_executor
from octavo.worker.ranks.start import create_shared_executor
from octavo.worker.start.draft import beside, plan_drafter, size_cache_with
from octavo.worker.start.encoder import encoder_of, plan_encoder
from octavo.worker.start.gpu_fit import check_gpu_generation, check_gpu_memory
from octavo.worker.start.phases import PhaseTimer
from octavo.worker.start.plan import plan_start, translated_load_errors


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
        with phase("load"):
            plan = plan_start(config)
            config, device, dtype = plan.config, plan.device, plan.dtype
            size, ahead = None, None  # of the cache; on a GPU a profile run tells
            drafter, drafting = None, None
            drafts = plan_drafter(config, plan)
            if device.type == "cpu":
                torch.set_num_threads(
                    machine.threads_for(plan.model.num_parameters, machine.available_cpus())
                )
                size = size_cache_with(drafts, plan)
            else:
                name = torch.cuda.get_device_name(device)
                capability = torch.cuda.get_device_capability(device)
                check_gpu_generation(name, capability, config.kv_cache_dtype)
                check_gpu_memory(
                    config, plan.model, device, dtype, plan.scheme, beside(drafts, config)
                )
                if not plan.model.is_generic:
                    ahead = stack.enter_context(
                        compiling_ahead(config, plan.model, dtype, device, plan.stored)
                    )
            with translated_load_errors():
                model = plan.build()
                if drafts is not None and size is not None:
                    drafter = drafts.start(config, size, model)
                elif drafts is not None:
                    drafting = drafts.start_on_gpu(config, model, gpu_kernels())
        if ahead is not None:
            with phase("compile"):
                ahead.wait()
    if size is not None:
        return start_host_executor(
            config,
            model,
            size,
            device=device,
            dtype=dtype,
            phase=phase,
            reload=plan.build_anew,
            adapters=plan.adapters,
            drafter=drafter,
        )
    from octavo.kernels.gpu.compiling.watch import CompileWatch
    from octavo.worker.gpu.executor import start_gpu_executor

    watch = CompileWatch()
    executor = start_gpu_executor(
        config,
        model,
        gpu_kernels(),
        device=device,
        dtype=dtype,
        phase=phase,
        reload=plan.build_anew,
        drafting=drafting,
        adapters=plan.adapters,
        may_run_eager=plan.model.is_generic,
    )
    watch.serving_begins()
    return executor


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
