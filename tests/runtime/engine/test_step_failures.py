"""An engine whose steps fail: when it tests itself, when it goes on and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest, TokenOutput
from octavo.engine.self_test import SELF_TEST_ID
from octavo.engine.step_failures import END_AFTER, SUSPECT_AFTER
from octavo.errors import DeviceFaultError
from octavo.outputs import FinishReason
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence
from tests.support.runtime.oracle import PagedMemoryExecutor, run_alone

POISON = 7
Batch = Sequence[ScheduledSequence]


def is_test(batch: Batch) -> bool:
    return [entry.sequence_id for entry in batch] == [SELF_TEST_ID]


class Engine:
    """An engine on an executor that runs a step only if `fails` does not say otherwise."""

    def __init__(self, *, is_asynchronous: bool = False, num_blocks: int = 32) -> None:
        self.fails: Callable[[Batch], bool] = lambda batch: False
        self.executor = PagedMemoryExecutor(
            num_blocks, on_execute=self._execute, is_asynchronous=is_asynchronous
        )
        config = EngineConfig(model="oracle", max_num_seqs=4, max_num_batched_tokens=32)
        self.core = EngineCore(config, self.executor, is_debugging=True)
        self.num_tests = 0
        self._num_requests = 0

    def add(self, *prompt: int, max_tokens: int = 3) -> str:
        name = f"r{self._num_requests}"
        self._num_requests += 1
        params = SamplingParams(max_tokens=max_tokens, ignore_eos=True, seed=0)
        self.core.add(AddRequest(name, list(prompt), params))
        return name

    def run(self) -> list[TokenOutput]:
        outputs = []
        while self.core.has_work:
            outputs += self.core.step().outputs
        return outputs

    def pauses(self) -> bool:
        return self.core.should_pause

    def fail(self, times: int) -> None:
        """One request after the other, each in a step that fails."""
        fails, self.fails = self.fails, lambda batch: not is_test(batch)
        for _ in range(times):
            self.add(1)
            while self.core._requests:
                self.core.step()
        self.fails = fails

    def _execute(self, batch: Batch) -> None:
        self.num_tests += is_test(batch) and batch[0].start == 0
        if self.fails(batch):
            raise RuntimeError("no")


@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_a_bad_request_that_is_sent_for_ever_does_not_end_the_engine(is_asynchronous: bool) -> None:
    engine = Engine(is_asynchronous=is_asynchronous)
    engine.fails = lambda batch: any(POISON in entry.token_ids for entry in batch)
    for _ in range(4 * END_AFTER):
        engine.add(1, POISON)
        assert [output.finish_reason for output in engine.run()] == [FinishReason.ERROR]
        assert engine.core.stats().num_failed_steps < SUSPECT_AFTER
    assert engine.num_tests == 4 * END_AFTER // SUSPECT_AFTER


def test_completions_in_between_make_a_test_needless() -> None:
    engine = Engine()
    for _ in range(3):
        engine.fail(SUSPECT_AFTER - 1)
        engine.add(1, 2)
        engine.run()
    assert engine.num_tests == 0


@pytest.mark.parametrize("is_asynchronous", [False, True])
@pytest.mark.parametrize("kind", ["every step", "every decode"])
def test_an_engine_that_completes_nothing_ends(kind: str, is_asynchronous: bool) -> None:
    engine = Engine(is_asynchronous=is_asynchronous)
    engine.fails = lambda batch: kind == "every step" or batch[0].start > 0

    def serve() -> None:
        for _ in range(END_AFTER):
            engine.add(1, 2)
            engine.run()

    with pytest.raises(DeviceFaultError, match=r"10 steps failed and none .* RuntimeError: no"):
        serve()
    assert engine.num_tests == END_AFTER - SUSPECT_AFTER


@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_requests_wait_while_the_test_fails_and_run_when_it_succeeds(is_asynchronous: bool) -> None:
    engine = Engine(is_asynchronous=is_asynchronous)
    engine.fail(SUSPECT_AFTER)
    assert engine.core.has_work  # its test
    assert not engine.pauses()  # the first test is made at once
    engine.fails = lambda batch: True
    engine.add(1, 2)
    for failed in range(SUSPECT_AFTER + 1, END_AFTER):
        assert engine.core.step().outputs == []
        assert engine.pauses()
        assert engine.core.stats().num_failed_steps == failed
    engine.fails = lambda batch: False
    tokens = [token for output in engine.run() for token in output.new_token_ids]
    assert tokens == run_alone([1, 2], 3, seed=0, ignore_eos=True)
    assert not engine.pauses()
    assert engine.core.stats().num_failed_steps == 0


def test_what_ran_before_the_test_goes_on_after_it() -> None:
    engine = Engine()
    name = engine.add(1, 2, max_tokens=30)
    tokens = [token for _ in range(4) for token in engine.core.step().outputs[0].new_token_ids]
    engine.core._failures.count = SUSPECT_AFTER
    tokens += [token for output in engine.run() for token in output.new_token_ids]
    assert engine.num_tests == 1
    assert (name, tokens) == ("r0", run_alone([1, 2], 30, seed=0, ignore_eos=True))


def test_without_a_free_block_a_requests_step_is_the_test() -> None:
    engine = Engine(num_blocks=2)
    engine.add(1, 2, 3, 4, max_tokens=4)
    engine.core.step()
    engine.core.step()
    assert engine.core.stats().kv_blocks_used == 2
    engine.core._failures.count = SUSPECT_AFTER
    engine.run()
    assert engine.num_tests == 0
    assert engine.core.stats().num_failed_steps == 0


def test_the_traceback_of_a_failed_step_shows_no_prompt(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine()
    engine.fails = lambda batch: True
    engine.add(31, 31, 31)
    engine.run()
    printed = capsys.readouterr()
    assert "of 1 sequences failed" in caplog.text
    assert "RuntimeError: no" in caplog.text
    assert "31, 31" not in caplog.text + printed.out + printed.err
