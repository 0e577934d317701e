"""Grammars in the caller's own process: none comes into it that a process beside it did not survive."""

from __future__ import annotations

import gc
import os
import signal
import threading
from typing import Any

import pytest

from octavo import LLM, SamplingParams
from octavo.engine.grammars.trial import GrammarTrial
from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.llm_on_llama import Model, make_llm

PRIME_DIVISORS = {"allOf": [{"multipleOf": each} for each in (9973, 9967, 9949, 9941)]}


def held_to(**outputs: Any) -> SamplingParams:
    return SamplingParams(max_tokens=8, structured_outputs=StructuredOutputsParams(**outputs))


def trial_of(llm: LLM) -> GrammarTrial:
    trial = llm._requests._grammars._trial
    assert trial is not None
    return trial


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_grammar_without_end_is_refused_and_ctrl_c_ends_the_wait_for_one(model: Model) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        llm = make_llm(model)
        prompt = model.prompts[0]
        llm._requests._grammars.most_seconds = 0.3
        assert trial_of(llm).pid is None
        with pytest.raises(InvalidParameterError, match=r"more than 0\.3 seconds of CPU time"):
            llm.generate([prompt], held_to(json={"type": "integer", **PRIME_DIVISORS}))
        pid = trial_of(llm).pid
        assert pid is not None
        # A process that says nothing, until the user has enough.
        os.kill(pid, signal.SIGSTOP)
        timer = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            llm.generate([prompt], held_to(regex="(ab)+"))
        timer.join()
        assert not is_alive(pid)
        (found,) = llm.generate([prompt], held_to(choice=["ab"]))
        assert found.outputs[0].text == "ab"
        pid = trial_of(llm).pid
        assert pid is not None
        del llm
        gc.collect()
        assert not is_alive(pid)
    finally:
        signal.signal(signal.SIGINT, before)
