"""Start of an executor: device, checks, weights, KV cache and warm-up, in this order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from octavo.config import EngineConfig, ModelImplementation
from octavo.errors import InvalidConfigurationError
from octavo.kernels.select import kernels_for
from octavo.loading import Placement
from octavo.models.base import EncoderConfig
from octavo.models.quantization_config import read_quantization_config
from octavo.models.registry import read_encoder_config
from octavo.quantization import check_quantization, scheme_for
from octavo.worker import machine
from octavo.worker.batch import Executor
from octavo.worker.compile_ahead import compiling_ahead
from octavo.worker.cpu.executor import start_host_executor
from octavo.worker.ranks.start import create_shared_executor
from octavo.worker.start.draft import DrafterPlan, plan_drafter
from octavo.worker.start.dtype import choose_dtype
from octavo.worker.start.encoder import check_encoder, load_encoder, warm_up_encoder
from octavo.worker.start.implementation import check_adapters
from octavo.worker.start.memory import KVCacheSize
from octavo.worker.start.phases import (
    PhaseTimer,
    check_gpu_generation,
    check_gpu_memory,
    size_host_cache,
)
from octavo.worker.start.plan import (
    StartPlan,
    choose_device,
    open_weights,
    plan_start,
    translated_load_errors,
)


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
    encoder = read_encoder_config(Path(config.model))
    if encoder is not None and config.model_impl is not ModelImplementation.TRANSFORMERS:
        return _create_encoder(config, encoder, phase)
    if config.tensor_parallel_size > 1:
        return create_shared_executor(config, phase)
    with ExitStack() as stack:
        with phase("load"):
            plan = plan_start(config)
            config, device, dtype = plan.config, plan.device, plan.dtype
            size, ahead = None, None  # of the cache; on a GPU a profile run tells
            drafts, drafter = None, None
            if device.type == "cpu":
                torch.set_num_threads(
                    machine.threads_for(plan.model.num_parameters, machine.available_cpus())
                )
                drafts = plan_drafter(config, plan)
                size = _host_cache(plan, drafts)
            else:
                name = torch.cuda.get_device_name(device)
                capability = torch.cuda.get_device_capability(device)
                check_gpu_generation(name, capability, config.kv_cache_dtype)
                check_gpu_memory(config, plan.model, device, dtype, plan.scheme)
                if not plan.model.is_generic:
                    ahead = stack.enter_context(
                        compiling_ahead(config, plan.model, dtype, device, plan.stored)
                    )
            with translated_load_errors():
                model = plan.build()
                if drafts is not None and size is not None:
                    drafter = drafts.start(config, size, model)
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
    from octavo.kernels.gpu import device as gpu_kernels  # triton: not on every platform
    from octavo.kernels.gpu.compiling.watch import CompileWatch
    from octavo.worker.gpu.executor import start_gpu_executor

    watch = CompileWatch()
    executor = start_gpu_executor(
        config, model, gpu_kernels, device=device, dtype=dtype, phase=phase, reload=plan.build_anew
    )
    watch.serving_begins()
    return executor


def _host_cache(plan: StartPlan, drafts: DrafterPlan | None) -> KVCacheSize:
    """In blocks that hold a token's keys and values of the model, and of what guesses for it."""
    available, scheme = machine.available_memory_bytes(), plan.scheme
    if drafts is None:
        return size_host_cache(plan.config, plan.model, plan.dtype, scheme, available)
    size = size_host_cache(
        plan.config,
        plan.model,
        plan.dtype,
        scheme,
        available - drafts.weight_bytes,
        draft_block_bytes=drafts.block_bytes(plan.config),
    )
    drafts.check_length(plan.config, size.max_model_len)
    return size


def _create_encoder(config: EngineConfig, model: EncoderConfig, phase: PhaseTimer) -> Executor:
    with phase("load"):
        if config.tensor_parallel_size > 1:
            raise InvalidConfigurationError(
                f"tensor_parallel_size is {config.tensor_parallel_size}, and {model.spec.architecture} is an "
                "encoder, which ranks do not share. Use --tensor-parallel-size 1."
            )
        device = choose_device(config)
        check_adapters(config, model, device)
        check_encoder(model.spec.architecture, device, read_quantization_config(Path(config.model)))
        check_quantization(config, device, None)
        kernels = kernels_for(device)
        placement = Placement(choose_dtype(config.dtype, model, device), device)
        executor = load_encoder(
            config,
            model,
            lambda: open_weights(config, placement),
            scheme=scheme_for(config.quantization, kernels),
            kernels=kernels,
            placement=placement,
            phases=phase.seconds,
        )
    with phase("warmup"):
        warm_up_encoder(executor)
    return executor
