"""Ctrl-C while `LLM` works, and threads that get no signals."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from octavo import LLM
from octavo.engine.messages import StepOutputs
from tests.support.runtime.llm_on_llama import GREEDY, Model, tokens_of


def test_ctrl_c_ends_a_call_between_two_steps(
    model: Model, llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a terminal; what a shell starts in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    core = llm._engine()
    allocate = core._blocks.allocate

    def interrupted(sequence_id: int, num_tokens: int) -> None:
        signal.raise_signal(signal.SIGINT)  # while the sequence has a table and does not run yet
        allocate(sequence_id, num_tokens)

    calls: list[Any] = [llm.generate, llm.embed, llm.beam_search]
    try:
        for call in calls:
            with monkeypatch.context() as patch:
                patch.setattr(core._blocks, "allocate", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    call(model.prompts[1:4])
            core.check_integrity()
            assert (llm.stats.kv_blocks_used, llm.stats.num_waiting) == (0, 0)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert tokens_of(llm.generate(model.prompts, GREEDY)) == model.expected


def test_a_thread_without_signals_may_generate(model: Model, llm: LLM) -> None:
    with ThreadPoolExecutor(1) as threads:
        outputs = threads.submit(llm.generate, model.prompts[:2], GREEDY).result()
    assert tokens_of(outputs) == model.expected[:2]


def test_a_caller_that_handles_ctrl_c_itself_goes_on_doing_so(model: Model, llm: LLM) -> None:
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        core = llm._engine()
        seen_at_step: list[int] = []
        run_step = core.step

        def step() -> StepOutputs:
            if not seen_at_step:
                signal.raise_signal(signal.SIGINT)
            seen_at_step.append(len(seen))
            return run_step()

        core.step = step  # type: ignore[method-assign]
        try:
            assert tokens_of(llm.generate(model.prompts[:1], GREEDY)) == model.expected[:1]
        finally:
            del core.step
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
    assert seen_at_step[:2] == [0, 1]
