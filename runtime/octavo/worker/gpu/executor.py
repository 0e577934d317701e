"""Executor for GPUs: sizes the KV cache, warms up, records decode steps, and translates faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from octavo.config import EngineConfig
from octavo.errors import DeviceFaultError, InvalidConfigurationError, OutOfMemoryError
from octavo.kernels.protocols.device import DeviceKernels
from octavo.loading.pooling import normalises
from octavo.models.base import CausalLM
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import ExecutorInfo, PendingStep, StepBatch
from octavo.worker.gpu.cuda_graphs import CudaCapture
from octavo.worker.gpu.parked_weights import park
from octavo.worker.gpu.profile import gpu_cache_budget, run_largest_steps, warm_up_gpu
from octavo.worker.gpu.runner import GpuRunner, RunnerLimits
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.memory import BudgetSource
from octavo.worker.start.phases import PhaseTimer, executor_info, size_cache
from octavo.worker.wakeable import Wakeable


class GpuExecutor:
    """Runs steps without waiting for them; see the `Executor` protocol.

    Args:
        record: Records the decode steps of a runner that woke, where they are recorded.
    """

    def __init__(
        self,
        loaded: Wakeable[CausalLM, GpuRunner],
        info: ExecutorInfo,
        record: Callable[[GpuRunner], None],
    ) -> None:
        self._loaded = loaded
        self._info = info
        self._record = record

    @property
    def info(self) -> ExecutorInfo:
        return self._info

    @property
    def runner(self) -> GpuRunner:
        return self._loaded.runner

    def sleep(self, level: SleepLevel) -> None:
        self._loaded.sleep(level)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def wake_up(self) -> None:
        with translated_start_errors(torch.device(self._info.device)):
            self._loaded.wake_up()
            self._record(self.runner)

    def submit(self, batch: StepBatch) -> PendingStep:
        try:
            return self.runner.submit(batch)
        except torch.OutOfMemoryError:
            raise
        except torch.AcceleratorError as error:
            raise self._fault(error) from error
        except RuntimeError as error:
            self._check_device(error)
            raise

    def _check_device(self, error: RuntimeError) -> None:
        """Raises `DeviceFaultError` if the device is lost.

        cuBLAS, the driver and Triton report a broken context as a plain RuntimeError, in words that also
        name harmless failures. A broken context fails every call from then on, so that one is made: the
        steps in flight are waited for, which nobody minds after an error.
        """
        if self.runner.device.type != "cuda":
            return
        try:
            torch.cuda.synchronize(self.runner.device)
        except RuntimeError:
            raise self._fault(error) from error

    def _fault(self, error: RuntimeError) -> DeviceFaultError:
        return DeviceFaultError(f"{self._info.device} failed: {error}")


@contextmanager
def translated_start_errors(device: torch.device) -> Iterator[None]:
    """What the first steps on a GPU raise, as errors that say what to do."""
    from triton.runtime.errors import OutOfResources  # triton is not on every platform

    try:
        yield
    except ValueError as error:  # a kernel has no form for these shapes or types on this GPU
        raise InvalidConfigurationError(f"The model cannot run on {device}: {error}") from error
    except OutOfResources as error:
        raise InvalidConfigurationError(
            f"The model cannot run on {device}: a kernel needs {error.required} of {error.name}, and this "
            f"GPU has {error.limit}. Kernels are cut for A100, H100 and H200: choose such nodes "
            "(spec.scheduling.nodeSelector), or use --device cpu."
        ) from error
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"The KV cache and the largest steps do not fit beside the weights: {error} Lower "
            "--gpu-memory-utilization or --kv-cache-memory, --max-num-batched-tokens or --max-num-seqs."
        ) from error


def start_gpu_executor(
    config: EngineConfig,
    model: CausalLM,
    kernels: DeviceKernels,
    *,
    device: torch.device,
    dtype: torch.dtype,
    phase: PhaseTimer,
    reload: Callable[[], CausalLM],
) -> GpuExecutor:
    """Phases profile, warmup and, unless `config.enforce_eager`, capture.

    Args:
        reload: Reads the model anew.

    Raises `OutOfMemoryError` or `InvalidConfigurationError`.
    """
    cache_dtype = choose_cache_dtype(config.kv_cache_dtype, dtype)
    with translated_start_errors(device):
        with phase("profile"):
            budget, source = config.kv_cache_memory_bytes, BudgetSource.FLAG
            if budget is None:
                budget = gpu_cache_budget(config, model, kernels, device, dtype, cache_dtype)
                source = BudgetSource.GPU_SHARE
            size = size_cache(config, model.spec, cache_dtype, budget, source)
            limits = RunnerLimits.of(
                config, num_blocks=size.num_blocks, max_model_len=size.max_model_len
            )

            def make(loaded: CausalLM) -> GpuRunner:
                return GpuRunner(
                    loaded,
                    kernels,
                    limits,
                    device=device,
                    dtype=dtype,
                    cache_dtype=cache_dtype,
                    seed=config.seed,
                    normalises=normalises(Path(config.model)),
                )

            loaded = Wakeable(model, make, reload, park)
        with phase("warmup"):
            warm_up_gpu(loaded.runner)
        if not config.enforce_eager:
            with phase("capture"):
                _record(loaded.runner)
                run_largest_steps(loaded.runner)  # once more, now that recordings hold memory
    info = executor_info(
        config,
        model.spec,
        size,
        dtype=dtype,
        device=device,
        phases=phase.seconds,
        is_asynchronous=True,
    )
    return GpuExecutor(loaded, info, (lambda _: None) if config.enforce_eager else _record)


def _record(runner: GpuRunner) -> None:
    runner.capture(CudaCapture(runner.device))
    torch.cuda.empty_cache()  # what the runs before each recording left
