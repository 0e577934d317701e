"""Executor for GPUs: runs steps without waiting for them, sleeps, and translates faults."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from octavo.config import EngineConfig
from octavo.errors import DeviceFaultError
from octavo.kernels.protocols.device import DeviceKernels
from octavo.layers.ranks import ALONE, Ranks
from octavo.loading.adapter import read_adapter
from octavo.loading.pooling import normalises
from octavo.models.adapters import ModelAdapters
from octavo.models.seated_adapters import SeatedAdapters
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import ExecutorInfo, PendingStep, StepBatch
from octavo.worker.gpu.cuda_graphs import Capture
from octavo.worker.gpu.draft_rows import most_drafts
from octavo.worker.gpu.drafter import DraftingRunner, GpuDrafting
from octavo.worker.gpu.packed_runner import RunnerLimits
from octavo.worker.gpu.prepare import prepare_gpu, translated_start_errors
from octavo.worker.gpu.runner import GpuRunner, Tell
from octavo.worker.loaded import Loaded
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.phases import PhaseTimer, executor_info
from octavo.worker.wakeable import Wakeable


class GpuExecutor:
    """Runs steps without waiting for them; see the `Executor` and `HoldsAdapters` protocols.

    Args:
        record: Records the decode steps of a runner that woke, where they are recorded.
        adapters: Of the model; None: it takes none.
    """

    def __init__(
        self,
        loaded: Wakeable[Loaded[GpuDrafting], GpuRunner],
        info: ExecutorInfo,
        record: Callable[[GpuRunner], None],
        adapters: ModelAdapters | None = None,
    ) -> None:
        self._adapters = adapters
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

    def add_adapter(self, adapter_id: int, folder: str) -> None:
        if self._adapters is not None:
            self._adapters.add(adapter_id, read_adapter(Path(folder)))

    def remove_adapter(self, adapter_id: int) -> None:
        if self._adapters is not None:
            self._adapters.remove(adapter_id)

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


def start_gpu_executor(
    config: EngineConfig,
    read: Loaded[GpuDrafting],
    kernels: DeviceKernels,
    *,
    device: torch.device,
    dtype: torch.dtype,
    phase: PhaseTimer,
    reload: Callable[[], Loaded[GpuDrafting]],
    ranks: Ranks = ALONE,
    tell: Tell | None = None,
    least: Callable[[int], int] = lambda own: own,
    new_capture: Callable[[], Capture] | None = None,
    adapters: ModelAdapters | None = None,
    may_run_eager: bool = False,
) -> GpuExecutor:
    """As `prepare_gpu`, of the only rank or of the first.

    Args:
        ranks, tell: See `GpuRunner`.
        adapters: Of the model; None: it takes none.
    """
    seated = adapters if isinstance(adapters, SeatedAdapters) else None

    def make(of: Loaded[GpuDrafting], limits: RunnerLimits) -> GpuRunner:
        drafting = of.drafting
        kind = GpuRunner if drafting is None else DraftingRunner
        runner = kind(
            of.model,
            kernels,
            limits,
            device=device,
            dtype=dtype,
            cache_dtype=choose_cache_dtype(config.kv_cache_dtype, dtype),
            seed=config.seed,
            normalises=normalises(Path(config.model)),
            ranks=ranks,
            tell=tell,
            watch=None if drafting is None else drafting.watch,
            adapters=seated,
        )
        if drafting is not None and isinstance(runner, DraftingRunner):
            runner.drafter = drafting.make(runner)
        return runner

    prepared = prepare_gpu(
        config,
        read,
        make,
        device=device,
        dtype=dtype,
        phase=phase,
        reload=reload,
        least=least,
        new_capture=new_capture,
        may_run_eager=may_run_eager,
    )
    info = executor_info(
        config,
        read.model.spec,
        prepared.size,
        dtype=dtype,
        device=device,
        phases=phase.seconds,
        is_asynchronous=True,
    )
    info = dataclasses.replace(info, max_drafts=most_drafts(config))
    return GpuExecutor(prepared.loaded, info, prepared.record, seated)
