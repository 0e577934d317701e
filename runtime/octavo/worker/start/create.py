"""Start of an executor: device, checks, weights, KV cache and warm-up, in this order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from octavo.config import Device, EngineConfig, LoadFormat, ModelImplementation
from octavo.errors import InvalidConfigurationError, OutOfMemoryError
from octavo.kernels.select import kernels_for
from octavo.loading import DummyWeights, Placement, SafetensorsWeights, WeightSource
from octavo.models.base import EncoderConfig
from octavo.models.building import build_model, with_stored_head
from octavo.models.quantization_config import read_quantization_config, read_stored_format
from octavo.models.registry import read_encoder_config, read_model_config
from octavo.models.spec import ModelSpec
from octavo.quantization import check_quantization, scheme_for
from octavo.worker import machine
from octavo.worker.batch import Executor
from octavo.worker.compile_ahead import compiling_ahead
from octavo.worker.cpu.executor import start_host_executor
from octavo.worker.start.dtype import choose_dtype
from octavo.worker.start.encoder import check_encoder, load_encoder, warm_up_encoder
from octavo.worker.start.implementation import settled
from octavo.worker.start.memory import check_positions
from octavo.worker.start.phases import (
    PhaseTimer,
    check_gpu_generation,
    check_gpu_memory,
    size_host_cache,
    tell_options_for_gpus,
)

logger = logging.getLogger(__name__)

# Made by NVIDIA's driver on every node that has one.
_NVIDIA_CONTROL = Path("/dev/nvidiactl")


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
    with ExitStack() as stack:
        with phase("load"):
            device = _choose_device(config)
            stored = read_stored_format(Path(config.model))
            check_quantization(config, device, stored)
            model_config = read_model_config(Path(config.model), config.model_impl)
            config = settled(config, model_config, device)
            check_positions(config.max_model_len, model_config.spec.context)
            _tell_context(config.max_model_len, model_config.spec)
            dtype = choose_dtype(config.dtype, model_config, device)
            kernels, placement = kernels_for(device), Placement(dtype, device)
            source = _open_weights(config, placement)
            model_config = with_stored_head(model_config, source)
            scheme = scheme_for(config.quantization, kernels, stored)
            size, ahead = None, None  # of the cache; on a GPU a profile run tells
            if device.type == "cpu":
                torch.set_num_threads(
                    machine.threads_for(model_config.num_parameters, machine.available_cpus())
                )
                size = size_host_cache(
                    config, model_config, dtype, scheme, machine.available_memory_bytes()
                )
            else:
                name = torch.cuda.get_device_name(device)
                capability = torch.cuda.get_device_capability(device)
                check_gpu_generation(name, capability, config.kv_cache_dtype)
                check_gpu_memory(config, model_config, device, dtype, scheme)
                if not model_config.is_generic:
                    ahead = stack.enter_context(
                        compiling_ahead(config, model_config, dtype, device, stored)
                    )
            with torch.inference_mode(), _translated_load_errors():
                model = build_model(
                    model_config,
                    source,
                    scheme=scheme,
                    kernels=kernels,
                    placement=placement,
                )
        if ahead is not None:
            with phase("compile"):
                ahead.wait()
    if size is not None:
        return start_host_executor(config, model, size, device=device, dtype=dtype, phase=phase)
    from octavo.kernels.gpu import device as gpu_kernels  # triton: not on every platform
    from octavo.kernels.gpu.compiling.watch import CompileWatch
    from octavo.worker.gpu.executor import start_gpu_executor

    watch = CompileWatch()
    executor = start_gpu_executor(
        config, model, gpu_kernels, device=device, dtype=dtype, phase=phase
    )
    watch.serving_begins()
    return executor


def _create_encoder(config: EngineConfig, model: EncoderConfig, phase: PhaseTimer) -> Executor:
    with phase("load"):
        device = _choose_device(config)
        check_encoder(model.spec.architecture, device, read_quantization_config(Path(config.model)))
        check_quantization(config, device, None)
        kernels = kernels_for(device)
        placement = Placement(choose_dtype(config.dtype, model, device), device)
        executor = load_encoder(
            config,
            model,
            _open_weights(config, placement),
            scheme=scheme_for(config.quantization, kernels),
            kernels=kernels,
            placement=placement,
            phases=phase.seconds,
        )
    with phase("warmup"):
        warm_up_encoder(executor)
    return executor


def _tell_context(max_model_len: int | None, spec: ModelSpec) -> None:
    """What LongRoPE's two sets of factors mean for a user who reads the log."""
    if spec.context == spec.default_context:
        return
    if max_model_len is None:
        logger.info(
            "max_model_len is at most %d, the original context. The model knows %d positions: "
            "--max-model-len takes as many, and LongRoPE's long factors then turn every sequence.",
            spec.default_context,
            spec.context,
        )
    elif max_model_len > spec.default_context:
        logger.warning(
            "max_model_len is %d, more than the original context of %d: LongRoPE's long factors turn every "
            "sequence, also those that are short.",
            max_model_len,
            spec.default_context,
        )


def _choose_device(config: EngineConfig) -> torch.device:
    wanted = config.device
    has_cuda = torch.cuda.is_available()
    if wanted is Device.CUDA and not has_cuda:
        raise InvalidConfigurationError(
            f"device is cuda, but torch {torch.__version__} sees no GPU: {_why_no_gpu()} Give the pod one "
            f"(resources.gpu), update the node's driver to one for CUDA {torch.version.cuda}, or use "
            "--device cpu."
        )
    if wanted is Device.AUTO and not has_cuda and _NVIDIA_CONTROL.exists():
        logger.warning(
            "The engine runs on the CPU, although the node has an NVIDIA driver: torch %s (CUDA %s) sees no "
            "GPU: %s --device cuda makes this an error.",
            torch.__version__,
            torch.version.cuda,
            _why_no_gpu(),
        )
    if wanted is Device.CUDA or (wanted is Device.AUTO and has_cuda):
        return torch.device("cuda", torch.cuda.current_device())
    tell_options_for_gpus(config)
    return torch.device("cpu")


def _why_no_gpu() -> str:
    """What torch has to say: no driver, one that is too old, or no device, as a sentence."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        return str(error).split("\n")[0].split(". ")[0].rstrip(".") + "."
    return "it does not say why."


@contextmanager
def _translated_load_errors() -> Iterator[None]:
    """What passed the check before may not fit: that counts matrices alone, and others may use the GPU."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"The weights do not fit the GPU: {error} Use a larger GPU or a smaller model, or see what else "
            "takes its memory (nvidia-smi)."
        ) from error


def _open_weights(config: EngineConfig, placement: Placement) -> WeightSource:
    if config.load_format is LoadFormat.DUMMY:
        return DummyWeights(dtype=placement.dtype, device=placement.device, seed=config.seed)
    return SafetensorsWeights(Path(config.model))
