"""Owns the model and its KV cache on one device, and runs the engine's steps."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from octavo.config import Device, EngineConfig, LoadFormat
from octavo.errors import DeviceFaultError, InvalidConfigurationError, OutOfMemoryError
from octavo.kernels.select import kernels_for
from octavo.loading import DummyWeights, SafetensorsWeights, WeightSource
from octavo.models.decoder import Decoder
from octavo.models.registry import read_model_config, read_quantization_method
from octavo.sampling.host.sampler import Sampler
from octavo.sampling.state import SampledToken, SamplingState
from octavo.worker import machine
from octavo.worker.batch import (
    Executor,
    ExecutorInfo,
    FinishedStep,
    PendingStep,
    ScheduledSequence,
    StepBatch,
)
from octavo.worker.compile_ahead.ahead import compiling_ahead
from octavo.worker.cpu.runner import ModelRunner
from octavo.worker.cpu.warm_up import warm_up
from octavo.worker.start.dtype import choose_cache_dtype, choose_dtype
from octavo.worker.start.memory import KVCacheSize, check_positions
from octavo.worker.start.phases import (
    PhaseTimer,
    check_gpu_generation,
    check_gpu_memory,
    executor_info,
    size_host_cache,
)
from octavo.worker.start.quantization import check_quantization

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
    with ExitStack() as stack:
        with phase("load"):
            device = _choose_device(config.device)
            check_quantization(config, device, read_quantization_method(Path(config.model)))
            model_config = read_model_config(Path(config.model))
            check_positions(config.max_model_len, model_config.max_position_embeddings)
            dtype = choose_dtype(config.dtype, model_config, device)
            size, ahead = None, None  # of the cache; on a GPU a profile run tells
            if device.type == "cpu":
                torch.set_num_threads(
                    machine.threads_for(model_config.num_parameters, machine.available_cpus())
                )
                size = size_host_cache(
                    config, model_config, dtype, machine.available_memory_bytes()
                )
            else:
                name = torch.cuda.get_device_name(device)
                capability = torch.cuda.get_device_capability(device)
                check_gpu_generation(name, capability, config.kv_cache_dtype)
                check_gpu_memory(config, model_config, device, dtype)
                ahead = stack.enter_context(compiling_ahead(config, model_config, dtype, device))
            with torch.inference_mode(), _translated_load_errors():
                weights = _open_weights(config, device, dtype)
                model = Decoder(model_config, weights, kernels_for(device), config.quantization)
        if ahead is not None:
            with phase("compile"):
                ahead.wait()
    if size is not None:
        return _start_host_executor(config, model, size, device=device, dtype=dtype, phase=phase)
    from octavo.kernels.gpu import device as gpu_kernels  # triton: not on every platform
    from octavo.kernels.gpu.compiling.watch import CompileWatch
    from octavo.worker.gpu.executor import start_gpu_executor

    watch = CompileWatch()
    executor = start_gpu_executor(
        config, model, gpu_kernels, device=device, dtype=dtype, phase=phase
    )
    watch.serving_begins()
    return executor


def _start_host_executor(
    config: EngineConfig,
    model: Decoder,
    size: KVCacheSize,
    *,
    device: torch.device,
    dtype: torch.dtype,
    phase: PhaseTimer,
) -> TorchExecutor:
    """Phases profile and warmup."""
    with phase("profile"):
        runner = ModelRunner(
            model,
            num_blocks=size.num_blocks,
            max_model_len=size.max_model_len,
            block_size=config.block_size,
            max_num_batched_tokens=config.max_num_batched_tokens,
            device=device,
            dtype=dtype,
            cache_dtype=choose_cache_dtype(config.kv_cache_dtype, dtype),
        )
    with phase("warmup"):
        warm_up(
            runner,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
        )
    info = executor_info(
        config,
        model.config,
        size,
        dtype=dtype,
        device=device,
        phases=phase.seconds,
        is_asynchronous=False,
    )
    return TorchExecutor(runner, Sampler(config.seed), info)


class TorchExecutor:
    """Runs steps on one device; see the `Executor` protocol."""

    def __init__(self, runner: ModelRunner, sampler: Sampler, info: ExecutorInfo) -> None:
        self._runner = runner
        self._sampler = sampler
        self._info = info

    @property
    def info(self) -> ExecutorInfo:
        return self._info

    @torch.inference_mode()
    def submit(self, batch: StepBatch) -> PendingStep:
        try:
            self._sampler.forget(batch.released)
            self._runner.copy_blocks(batch.block_copies)
            return FinishedStep(self._step(batch.entries))
        except torch.AcceleratorError as error:
            raise DeviceFaultError(f"{self._info.device} failed: {error}") from error

    def _step(self, batch: Sequence[ScheduledSequence]) -> list[SampledToken]:
        result = self._runner.run(batch)
        if result.logits is None or result.hidden is None:
            return []
        inputs = result.inputs
        tokens = self._sampler.sample(result.logits, inputs.sequence_ids, inputs.sampling)
        if any(state.is_pooled for state in inputs.sampling):
            tokens = _with_embeddings(tokens, inputs.sampling, result.hidden)
        return tokens


def _with_embeddings(
    tokens: list[SampledToken], sampling: Sequence[SamplingState], hidden: torch.Tensor
) -> list[SampledToken]:
    """Last-token pooling: the last hidden state at the sequence's end, scaled to length 1."""
    rows = torch.nn.functional.normalize(hidden.float(), dim=-1).cpu()
    return [
        dataclasses.replace(token, embedding=row.tolist()) if state.is_pooled else token
        for token, state, row in zip(tokens, sampling, rows, strict=True)
    ]


def _choose_device(wanted: Device) -> torch.device:
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
    use_cuda = wanted is Device.CUDA or (wanted is Device.AUTO and has_cuda)
    return torch.device("cuda", torch.cuda.current_device()) if use_cuda else torch.device("cpu")


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


def _open_weights(config: EngineConfig, device: torch.device, dtype: torch.dtype) -> WeightSource:
    if config.load_format is LoadFormat.DUMMY:
        return DummyWeights(dtype=dtype, device=device, seed=config.seed)
    return SafetensorsWeights(Path(config.model), dtype=dtype, device=device)
