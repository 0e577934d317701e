"""Leading executor on GPUs: the first rank's, which tells the others each step as it packed it.

A step is queued on all GPUs and waited for at its result. A step that fails after it was told leaves the
ranks apart, one of them in a sum and another not, so it is the end of all: `DeviceFaultError`.
"""

from __future__ import annotations

from collections.abc import Callable

from octavo.errors import InvalidConfigurationError
from octavo.kernels.packed_step import Packer
from octavo.sampling.state import SampledToken
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import ExecutorInfo, PendingStep, StepBatch
from octavo.worker.gpu.executor import GpuExecutor
from octavo.worker.gpu.step_outline import StepOutline, pack_frame
from octavo.worker.ranks.device_watch import DeviceWatch
from octavo.worker.ranks.group import RankLostError
from octavo.worker.ranks.messages import LOAD_SECONDS
from octavo.worker.ranks.team import Team


class Teller:
    """Sends steps to the other ranks, and counts them."""

    def __init__(self, team: Team) -> None:
        self._team = team
        self.num_told = 0

    def __call__(self, outline: StepOutline, packer: Packer) -> None:
        self.num_told += 1
        self._team.send_step(pack_frame(outline, packer))


class LeadingGpuExecutor:
    """See `Executor` and `HoldsAdapters`.

    Args:
        executor: Of this rank's part of the model, by whose steps the teller is called.
        name: Of this rank: which of how many, and where.
        info: Of all ranks.
    """

    def __init__(
        self,
        executor: GpuExecutor,
        team: Team,
        teller: Teller,
        watch: DeviceWatch,
        name: str,
        info: ExecutorInfo,
    ) -> None:
        self._executor = executor
        self._team = team
        self._teller = teller
        self._watch = watch
        self._name = name
        self._info = info

    @property
    def info(self) -> ExecutorInfo:
        return self._info

    def submit(self, batch: StepBatch) -> PendingStep:
        before = self._teller.num_told
        try:
            with self._watch.over():
                step = self._executor.submit(batch)
        except Exception as error:
            if self._teller.num_told == before and not self._watch.has_lost:
                raise  # nobody knows of it but the requests that it was for
            raise self._failure(error) from error
        return _WatchedStep(step, self._result)

    def add_adapter(self, adapter_id: int, folder: str) -> None:
        self._executor.add_adapter(adapter_id, folder)
        try:
            self._team.add_adapter(adapter_id, folder)
        except InvalidConfigurationError:
            self._executor.remove_adapter(adapter_id)
            raise

    def remove_adapter(self, adapter_id: int) -> None:
        self._executor.remove_adapter(adapter_id)
        self._team.remove_adapter(adapter_id)

    def sleep(self, level: SleepLevel) -> None:
        self._team.sleep(level)
        self._executor.sleep(level)

    def wake_up(self) -> None:
        self._team.wake_up()
        try:
            with self._watch.over(LOAD_SECONDS):
                self._executor.wake_up()
        except Exception as error:
            raise self._failure(error) from error
        self._team.wait_until_awake()

    def _result(self, step: PendingStep) -> list[SampledToken]:
        try:
            with self._watch.over():
                tokens = step.result()
        except Exception as error:
            raise self._failure(error) from error
        if not self._watch.check():
            raise self._team.failure(f"{self._name} lost another rank.")
        return tokens

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, RankLostError) or not self._watch.check():
            return self._team.failure(str(error))
        return self._team.fail(f"{self._name} failed: {type(error).__name__}: {error}")


class _WatchedStep:
    """See `PendingStep`."""

    def __init__(
        self, step: PendingStep, result: Callable[[PendingStep], list[SampledToken]]
    ) -> None:
        self._step = step
        self._result = result

    def result(self) -> list[SampledToken]:
        return self._result(self._step)

    @property
    def scored(self) -> list[SampledToken]:
        return self._step.scored

    @property
    def drafter_seconds(self) -> float:
        return self._step.drafter_seconds
