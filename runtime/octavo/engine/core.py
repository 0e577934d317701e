"""Engine without its sockets: requests in, steps, token outputs out.

`EngineCore.step()` is the whole loop: schedule, submit, update. Whoever drives it (the engine process, or
`LLM` in its own process) decides when. With an asynchronous executor step n + 1 is scheduled and submitted
while step n runs, so that the device never waits for this code; the tokens are the same.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Sequence as AbstractSequence
from pathlib import Path

from octavo.config import EngineConfig
from octavo.engine.adapters import EngineAdapters
from octavo.engine.counts import EngineCounts
from octavo.engine.grammars import CompiledGrammar, GrammarCompiler
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.messages import (
    AddRequest,
    EngineInfo,
    EngineStats,
    StepOutputs,
    TokenOutput,
)
from octavo.engine.request_checks import check_request
from octavo.engine.requests.completions import open_completions
from octavo.engine.requests.open_requests import OpenRequests
from octavo.engine.requests.sequence import Sequence
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.scheduler import Scheduler
from octavo.engine.self_test import SELF_TEST_ID, SelfTest
from octavo.engine.sleep import Sleep
from octavo.engine.speculation.speculation import Speculation, SpeculationCounts
from octavo.engine.speculation.start import start_speculation
from octavo.engine.step_failures import StepFailures
from octavo.engine.step_in_flight import StepInFlight
from octavo.engine.step_limits import SchedulerConfig
from octavo.engine.token_outputs import failure_of, output_of
from octavo.errors import DeviceFaultError, InvalidParameterError, ModelAsleepError
from octavo.outputs import FinishReason
from octavo.sampling.state import SampledToken
from octavo.sleep_level import SleepLevel
from octavo.tokenizer import load_tokenizer
from octavo.worker.batch import Executor, ExecutorInfo, StepBatch

# Not structlog: where `LLM` runs it nobody has configured it, and its tracebacks would show prompts.
_log = logging.getLogger(__name__)


class EngineCore:
    """Runs requests on an executor. Not thread-safe.

    Args:
        config: The limits of one step.
        executor: Owns model and KV memory.
        clock: Unix time in seconds; only stamps when a request was first scheduled.
        stopwatch: Seconds from anywhere; measures what speculative decoding gains. By default the clock
            where a step waits for a device or for other ranks, and else the CPU time of this thread, which
            others' work does not disturb.
        is_debugging: Check the integrity of the scheduler and its blocks whenever the engine gets idle.
    """

    def __init__(
        self,
        config: EngineConfig,
        executor: Executor,
        clock: Callable[[], float] = time.time,
        *,
        stopwatch: Callable[[], float] | None = None,
        is_debugging: bool = False,
    ) -> None:
        info = executor.info
        self._executor = executor
        self._clock = clock
        waits = info.is_asynchronous or config.tensor_parallel_size > 1
        self._stopwatch = stopwatch or (time.perf_counter if waits else time.thread_time)
        self._speculation = start_speculation(config.speculative_config, info)
        self._is_debugging = is_debugging
        self._max_in_flight = 2 if info.is_asynchronous else 1
        self._in_flight: deque[StepInFlight] = deque()
        self._last_taken: float | None = None  # where steps overlap, and more was to be run
        self._dtype = info.dtype
        self._blocks = BlockManager(info.num_kv_blocks, info.block_size)
        # A sequence must be able to finish when it has the whole cache to itself.
        self.max_model_len = min(info.max_model_len, info.num_kv_blocks * info.block_size)
        limits = SchedulerConfig.of(config, info, self.max_model_len)
        self._scheduler = Scheduler(limits, self._blocks)
        self.adapters = EngineAdapters(config, executor)
        self.grammars = GrammarCompiler(lambda: load_tokenizer(Path(config.model)), info.vocab_size)
        self._failures = StepFailures()
        self._self_test = SelfTest(
            executor, self._blocks, min(self.max_model_len, limits.max_num_batched_tokens)
        )
        self._requests = OpenRequests()
        self._sequence_ids = itertools.count()
        self.counts = EngineCounts()
        self._sleep = Sleep(executor, self._blocks, is_on=config.enable_sleep_mode)

    @property
    def has_work(self) -> bool:
        """Something is to be run, or the result of a step to be taken."""
        return self._scheduler.has_work or bool(self._in_flight) or self._failures.is_suspect

    @property
    def should_pause(self) -> bool:
        """The next step should wait a moment: nothing works at present."""
        return self._failures.should_pause

    @property
    def info(self) -> EngineInfo:
        """What the API process validates requests against."""
        return EngineInfo.of(self._executor.info, self.max_model_len)

    @property
    def executor_info(self) -> ExecutorInfo:
        return self._executor.info

    def add(self, request: AddRequest) -> None:
        """Queues the request's n completions behind all that came before with its priority.

        Raises: as `check`; nothing was queued then.
        """
        params = request.sampling
        self.counts.num_received += params.n
        grammar = self._checked(request)
        sequences = open_completions(
            request,
            itertools.islice(self._sequence_ids, params.n),
            max_model_len=self.max_model_len,
            vocab_size=self._executor.info.vocab_size,
            grammar=grammar,
        )
        self._requests.open(request.request_id, sequences)
        for sequence in sequences:
            self.adapters.hold(request.adapter_id)
            self._scheduler.add(sequence)

    def has(self, request_id: str) -> bool:
        """A completion of it waits or runs."""
        return request_id in self._requests

    @property
    def num_sequences(self) -> int:
        """That run or wait."""
        return self._scheduler.num_running + self._scheduler.num_waiting

    def check(self, request: AddRequest) -> None:
        """Whether `add` would take it.

        Raises:
            InvalidParameterError: `request_id` is running already, the prompt is empty or holds an id
                outside the vocabulary, the model has no head to generate with, there is no such adapter, or a
                grammar cannot be had.
            ContextLengthExceededError: The prompt leaves no room for one output token, where it needs one.
            ModelAsleepError: Between `sleep` and `wake_up`.
        """
        self._checked(request)

    def _checked(self, request: AddRequest) -> CompiledGrammar | None:
        """The grammar that the request wants. Raises as `check`."""
        if self._sleep.level is not None:
            raise ModelAsleepError
        if request.request_id in self._requests:
            raise InvalidParameterError(
                "request_id",
                f"request_id {request.request_id!r} is running already; use a new one.",
            )
        check_request(request, self._executor.info, self.max_model_len)
        self.adapters.check(request.adapter_id)
        outputs = request.sampling.structured_outputs
        return None if outputs is None else self.grammars.prepare(outputs, request.end_token_ids)

    def abort(self, request_ids: Iterable[str], indexes: Iterable[int] | None = None) -> None:
        """Ends these requests (of each only the completions `indexes`, if given); their blocks are free
        when this returns. Unknown ids are ignored. Nothing is output for what was aborted."""
        found = self._requests.sequence_ids(request_ids, indexes)
        self._forget(self._scheduler.abort(found))
        self._drop_adapters()
        self._check_when_idle()

    def unload_adapter(self, adapter_id: int) -> None:
        """See `UnloadAdapter`."""
        self.adapters.unload(adapter_id)
        self._drop_adapters()

    def step(self) -> StepOutputs:
        """Submits what can be submitted and takes in the oldest step's result.

        A step that fails ends the sequences of its batch with `FinishReason.ERROR`; the engine goes on. After
        some that failed and none that succeeded it runs a test of its own instead (see `StepFailures`).

        Raises:
            DeviceFaultError: The device is gone, and with it the KV cache, or nothing works any more; the
                engine is of no more use.
        """
        outputs: list[TokenOutput] = []
        is_suspect = self._failures.is_suspect
        if is_suspect and not self._in_flight and self._self_test.has_room:
            self._test_itself()
        elif not is_suspect or not self._in_flight:
            while self._may_submit and self._submit(outputs):
                pass
        if self._in_flight:
            self._take(self._in_flight.popleft(), outputs)
        self._drop_adapters()
        self._check_when_idle()
        return StepOutputs(outputs, self.stats())

    def check_executor(self) -> None:
        """Runs a step of the engine's own, while no other is; raises `DeviceFaultError` when nothing runs.

        A model that sleeps is woken for it.
        """
        self.wake_up()
        if self._self_test.has_room:
            self._self_test.run()

    def sleep(self, level: SleepLevel) -> None:
        """See `Sleep`; nothing may run."""
        if self.has_work:
            raise RuntimeError("The engine runs requests, and was told to sleep.")
        self._sleep.begin(level)

    def wake_up(self) -> None:
        """Undoes `sleep`. Raises as `create_executor`; the engine is of no more use then."""
        self._sleep.end()

    def check_integrity(self) -> None:
        """Raises `RuntimeError` unless the scheduler's and the blocks' accounts agree."""
        self._scheduler.check_integrity()

    def stats(self) -> EngineStats:
        """A snapshot between two steps."""
        speculation = self._speculation
        drafted = SpeculationCounts() if speculation is None else speculation.counts
        counts, running = self.counts, self._scheduler.running_adapters
        return EngineStats(
            step=counts.num_steps,
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting,
            kv_blocks_total=self._blocks.num_blocks,
            kv_blocks_used=self._blocks.num_blocks - self._blocks.num_free_blocks,
            kv_tokens_held=self._scheduler.num_tokens_held,
            preemptions_total=self._scheduler.num_preemptions,
            prompt_tokens_total=counts.num_prompt_tokens,
            generation_tokens_total=counts.num_generated_tokens,
            prefix_cache_hit_tokens_total=counts.num_cached_tokens,
            prefix_cache_query_tokens_total=(
                counts.num_prompt_tokens if self._scheduler.uses_prefix_cache else 0
            ),
            num_failed_steps=self._failures.count,
            sequences_received_total=counts.num_received,
            sequences_orphaned_total=counts.num_orphaned,
            sleep_level=self._sleep.level or 0,
            spec_decode_drafts_total=drafted.num_drafts,
            spec_decode_draft_tokens_total=drafted.num_draft_tokens,
            spec_decode_accepted_tokens_per_position=tuple(drafted.num_accepted),
            running_adapters=tuple(running),
            waiting_adapters=self.adapters.waiting(running),
        )

    @property
    def _may_submit(self) -> bool:
        """Guesses follow from the tokens of the step before: one that may have some does not overlap it."""
        if not self._in_flight or len(self._in_flight) == self._max_in_flight:
            return not self._in_flight
        speculation = self._speculation
        return speculation is None or speculation.may_overlap(self._scheduler.num_decoding)

    def _submit(self, outputs: list[TokenOutput]) -> bool:
        """Starts the next step. False when there is none, or it failed: then its sequences have ended."""
        started, proposed, speculation = None, 0.0, self._speculation
        is_overlapped = bool(self._in_flight)
        if speculation is None:
            batch = self._scheduler.schedule()
        elif is_overlapped:
            started = self._stopwatch()
            batch = self._scheduler.schedule()
        else:
            decoding = self._scheduler.decoding
            # To read the time costs a percent of a short step.
            started = self._stopwatch() if speculation.is_timed(len(decoding)) else None
            drafts = speculation.propose(decoding)
            proposed = 0.0 if started is None else self._stopwatch()
            batch = self._scheduler.schedule(drafts)
        if not batch.entries:
            return False
        self.counts.num_steps += 1
        self._stamp(batch.admitted)
        try:
            is_followed = speculation is None or speculation.is_followed
            pending = self._executor.submit(
                StepBatch(batch.entries, batch.block_copies, batch.released, is_followed)
            )
        except DeviceFaultError:
            raise
        except Exception as error:
            self._scheduler.restore_released(batch)
            outputs += self._fail(batch, error)
            return False
        self._in_flight.append(StepInFlight(batch, pending, started, proposed, is_overlapped))
        return True

    def _take(self, step: StepInFlight, outputs: list[TokenOutput]) -> None:
        """Waits for a step and takes in its tokens."""
        try:
            tokens = step.pending.result()
            if step.pending.scored:
                step.batch.take_scores(step.pending.scored)
            updates = self._scheduler.update(step.batch, tokens)
        except DeviceFaultError:
            raise
        except Exception as error:
            outputs += self._fail(step.batch, error)
            return
        if self._speculation is not None:
            self._observe(self._speculation, step, updates)
        for sequence, sampled in updates:
            self.counts.num_generated_tokens += len(sampled)
            outputs.append(output_of(sequence, sampled, self._dtype))
            if sequence.finish_reason is not None:
                self._forget((sequence,))
                if sequence.finish_reason is not FinishReason.ERROR:
                    self._failures.count_success()

    def _observe(
        self,
        speculation: Speculation,
        step: StepInFlight,
        updates: list[tuple[Sequence, AbstractSequence[SampledToken]]],
    ) -> None:
        """Where steps overlap, one takes the time since the one before it was done."""
        if step.started is None:
            speculation.pass_step()
            return
        now = self._stopwatch()
        seconds = now - (step.started if self._last_taken is None else self._last_taken)
        if self._max_in_flight > 1:
            self._last_taken = now if self._scheduler.has_work else None
        if step.is_overlapped:
            speculation.observe_overlapped(step.batch, seconds)
            return
        looking = step.proposed - step.started
        drafter = min(step.pending.drafter_seconds, seconds)
        speculation.observe(step.batch, updates, seconds, looking, drafter)
        if speculation.is_looking:
            speculation.add_cost(self._stopwatch() - now)

    def _test_itself(self) -> None:
        try:
            self._self_test.judge(self._failures)
        finally:
            self._scheduler.restore_released(ScheduledBatch(released=[SELF_TEST_ID]))

    def _check_when_idle(self) -> None:
        if self._is_debugging and not self.has_work:
            self.check_integrity()

    def _stamp(self, admitted: list[Sequence]) -> None:
        for sequence in admitted:
            if sequence.first_scheduled_time is None:  # else it comes back from a preemption
                sequence.first_scheduled_time = self._clock()
                self.counts.admit(sequence)

    def _fail(self, batch: ScheduledBatch, error: Exception) -> list[TokenOutput]:
        _log.error(
            "step %d of %d sequences failed",
            self.counts.num_steps,
            len(batch.sequences),
            exc_info=error,
        )
        self._last_taken = None
        message = f"The step that ran this request failed: {type(error).__name__}."
        ended = self._scheduler.abort(
            [sequence.sequence_id for sequence in batch.sequences], FinishReason.ERROR
        )
        self._forget(ended)
        self._failures.count_failure(error)
        return [failure_of(sequence, message) for sequence in ended]

    def _drop_adapters(self) -> None:
        if not self._in_flight:  # else a step may still read them
            self.adapters.drop_unused()

    def _forget(self, ended: Iterable[Sequence]) -> None:
        for sequence in ended:
            if self._speculation is not None:
                self._speculation.forget(sequence.sequence_id)
            self.adapters.let_go(sequence.adapter_id)
            self._requests.close(sequence)
