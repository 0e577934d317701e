"""Octavo's engine in this process, driven request by request, without HTTP and tokenisation."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu.loads import Load
from benchmarks.gpu.scale import Scale
from octavo.config import Device, EngineConfig, LoadFormat
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest, EngineStats
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import Executor, ExecutorInfo, PendingStep, StepBatch
from octavo.worker.start.create import create_executor


@dataclass(slots=True)
class ExecutorClock:
    """Host seconds that the engine spent in its executor since the last reset."""

    submit_seconds: float = 0.0
    wait_seconds: float = 0.0

    def reset(self) -> None:
        self.submit_seconds = self.wait_seconds = 0.0


class TimedExecutor:
    """An executor whose calls are timed: `submit` is input preparation and launch, `result` the wait."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.clock = ExecutorClock()

    @property
    def info(self) -> ExecutorInfo:
        return self._executor.info

    def sleep(self, level: SleepLevel) -> None:
        self._executor.sleep(level)

    def wake_up(self) -> None:
        self._executor.wake_up()

    def submit(self, batch: StepBatch) -> PendingStep:
        start = time.perf_counter()
        step = self._executor.submit(batch)
        self.clock.submit_seconds += time.perf_counter() - start
        return _TimedStep(step, self.clock)


@dataclass(frozen=True, slots=True)
class _TimedStep:
    step: PendingStep
    clock: ExecutorClock

    def result(self) -> list[SampledToken]:
        start = time.perf_counter()
        tokens = self.step.result()
        self.clock.wait_seconds += time.perf_counter() - start
        return tokens

    @property
    def scored(self) -> list[SampledToken]:
        return self.step.scored

    @property
    def drafter_seconds(self) -> float:
        return self.step.drafter_seconds


@dataclass(slots=True)
class Request:
    """One request under way; times are `time.perf_counter()` seconds, `due` when it should arrive."""

    load: Load
    due: float
    token_times: list[float] = field(default_factory=list)
    tokens: int = 0
    is_finished: bool = False

    @property
    def first_token_seconds(self) -> float:
        return self.token_times[0] - self.due

    @property
    def gaps(self) -> list[float]:
        """Seconds between neighbouring outputs."""
        return [
            later - earlier
            for earlier, later in zip(self.token_times, self.token_times[1:], strict=False)
        ]


class EngineUnderTest:
    """An engine with random weights.

    Args:
        check: Called before every step; raises when the time is up.
    """

    def __init__(self, folder: Path, scale: Scale, check: Callable[[], None]) -> None:
        self.config = EngineConfig(
            model=str(folder),
            load_format=LoadFormat.DUMMY,
            device=Device.CPU if scale.is_smoke else Device.AUTO,
            max_model_len=scale.max_model_len,
            max_num_seqs=scale.max_num_seqs,
            max_num_batched_tokens=scale.max_num_batched_tokens,
            kv_cache_memory_bytes=scale.kv_cache_bytes,
        )
        self._timed = TimedExecutor(create_executor(self.config))
        self._core = EngineCore(self.config, self._timed)
        self._check = check
        self._numbers = random.Random(1)
        self._count = 0
        self._requests: dict[str, Request] = {}
        self._tokens = 0

    @property
    def info(self) -> ExecutorInfo:
        return self._timed.info

    @property
    def clock(self) -> ExecutorClock:
        return self._timed.clock

    @property
    def kv_capacity(self) -> int:
        """Tokens that the KV cache holds."""
        return self.info.num_kv_blocks * self.info.block_size

    @property
    def stats(self) -> EngineStats:
        return self._core.stats()

    @property
    def output_tokens(self) -> int:
        """Generated since the engine was made."""
        return self._tokens

    def add(
        self, load: Load, due: float | None = None, *, prompt_number: int | None = None
    ) -> Request:
        """Queues a greedy request with a random prompt: a new one, so that no prefix cache hits.

        Args:
            prompt_number: Of a prompt that begins like every other of this number. The prefix cache then
                brings a batch to where a measurement begins, which saves half a minute of a run.
        """
        self._count += 1
        name = str(self._count)
        vocab = self.info.vocab_size
        numbers = self._numbers if prompt_number is None else random.Random(prompt_number)
        prompt = [numbers.randrange(3, vocab) for _ in range(load.prompt_tokens)]
        sampling = SamplingParams(temperature=0.0, max_tokens=load.output_tokens, ignore_eos=True)
        request = Request(load, time.perf_counter() if due is None else due)
        self._requests[name] = request
        self._core.add(AddRequest(name, prompt, sampling))
        return request

    def step(self) -> list[Request]:
        """One engine step; returns the requests that finished with it.

        Raises:
            RuntimeError: A request failed; what is timed then is no run.
        """
        self._check()
        outputs = self._core.step().outputs
        now = time.perf_counter()
        finished = []
        for output in outputs:
            if output.error is not None:
                raise RuntimeError(f"request {output.request_id} failed: {output.error}")
            request = self._requests[output.request_id]
            request.tokens += len(output.new_token_ids)
            self._tokens += len(output.new_token_ids)
            request.token_times.append(now)
            if output.finish_reason is not None:
                request.is_finished = True
                del self._requests[output.request_id]
                finished.append(request)
        return finished

    def step_until(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            if not self._core.has_work:
                raise RuntimeError("the engine ran out of work before the measurement ended")
            self.step()

    def run(
        self, loads: Sequence[Load], after_step: Callable[[], None] = lambda: None
    ) -> tuple[list[Request], float]:
        """Runs all loads, each from its arrival on, to their ends; the requests and the seconds it took."""
        start = time.perf_counter()
        waiting = sorted(loads, key=lambda load: load.arrival, reverse=True)
        requests: list[Request] = []
        while waiting or self._core.has_work:
            elapsed = time.perf_counter() - start
            while waiting and waiting[-1].arrival <= elapsed:
                load = waiting.pop()
                requests.append(self.add(load, start + load.arrival))
            if self._core.has_work:
                self.step()
                after_step()
            else:
                time.sleep(max(0.0, waiting[-1].arrival - elapsed))
        return requests, time.perf_counter() - start

    def start_decoding(self, batch: int, context: int, steps: int) -> list[Request]:
        """Brings `batch` equal requests so far that all of them decode; each has `steps` tokens to go.

        While the last prompts are prefilled the first requests already decode, so contexts differ by as
        many tokens as the prefill has steps. Prompts are the same in every call.
        """
        prefill_steps = -(-batch * context // self.config.max_num_batched_tokens)
        outputs = steps + 2 * prefill_steps + 16
        requests = [
            self.add(Load(context, outputs), prompt_number=number) for number in range(batch)
        ]
        self.step_until(lambda: all(len(request.token_times) >= 4 for request in requests))
        return requests

    def abort_all(self) -> None:
        """Ends what runs; steps until the engine is idle."""
        self._core.abort(list(self._requests))
        self._requests.clear()
        while self._core.has_work:
            self._core.step()
