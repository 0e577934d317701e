"""Self-test. A request of the engine's own, past the scheduler: does the executor still run anything?"""

from __future__ import annotations

import logging

from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.step_failures import StepFailures
from octavo.errors import DeviceFaultError
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import Executor, ScheduledSequence, StepBatch

# Not structlog, as in `core`.
_log = logging.getLogger(__name__)

SELF_TEST_ID = -1
"""The sequence's id: requests count from 0."""
_MAX_PROMPT_TOKENS = 8


class SelfTest:
    """A short prompt and one token after it, the two kinds of steps that requests consist of; of a model that
    runs whole prompts, the prompt alone.

    Args:
        max_tokens: Of a step, and of a sequence.
    """

    def __init__(self, executor: Executor, blocks: BlockManager, max_tokens: int) -> None:
        self._executor = executor
        self._blocks = blocks
        self._is_whole = executor.info.runs_whole_prompts
        self._prompt = [0] * max(1, min(_MAX_PROMPT_TOKENS, max_tokens - 1))

    @property
    def has_room(self) -> bool:
        """Blocks for it are free."""
        return self._blocks.can_allocate(SELF_TEST_ID, len(self._prompt) + 1)

    def judge(self, failures: StepFailures) -> None:
        """Decides whether the engine or its last requests were at fault, and counts it. As `run`.

        Raises:
            DeviceFaultError: The device is gone, or it was one failure too many.
        """
        try:
            self.run()
        except DeviceFaultError:
            raise
        except Exception as error:
            _log.error("self-test failed, requests wait", exc_info=error)
            failures.count_failure(error)
        else:
            _log.warning("self-test succeeded: the requests were at fault, the engine goes on")
            failures.count_success()

    def run(self) -> None:
        """Nothing may be in flight. The caller tells the executor later that the sequence is gone.

        Raises:
            Exception: Whatever the executor raises; `DeviceFaultError` if the device is gone.
        """
        prompt, output = self._prompt, list[int]()
        sampling = SamplingState(SamplingParams(temperature=0.0), None, prompt, output)
        self._blocks.allocate(SELF_TEST_ID, len(prompt) + 1)
        try:
            table = self._blocks.block_table(SELF_TEST_ID)
            steps = ((prompt, 0), (output, len(prompt)))
            for token_ids, start in steps[: 1 if self._is_whole else 2]:
                entry = ScheduledSequence(SELF_TEST_ID, token_ids, start, table, sampling)
                # It begins anew: an earlier test may have ended anywhere.
                released = (SELF_TEST_ID,) if start == 0 else ()
                step = self._executor.submit(StepBatch([entry], (), released))
                output += [token.token_id for token in step.result()]
        finally:
            self._blocks.free(SELF_TEST_ID)
