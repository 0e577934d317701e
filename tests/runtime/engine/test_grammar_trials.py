"""Trials of grammars: what takes too much ends a process beside the engine's, is told by the limit, and is
never tried again."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from octavo.engine.grammars import GrammarCompiler, GrammarQueue
from octavo.engine.grammars.progress import on_one_line
from octavo.engine.grammars.queue import NUM_LANES
from octavo.engine.grammars.trial import GrammarTrial, Outcome
from octavo.engine.grammars.trial_process import outcome_of
from octavo.engine.grammars.tried import TriedGrammars
from octavo.errors import InvalidParameterError
from octavo.model_source import resolve
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.demo_grammars import BYTES, END, TOKENIZER, request_of
from tests.support.runtime.server_process import eventually

VOCAB_SIZE = len(BYTES)
COMPILER = GrammarCompiler(lambda: TOKENIZER, VOCAB_SIZE)  # which nothing else has filled


def test_a_grammar_that_takes_for_ever_ends_its_process_and_others_do_not_wait_for_it() -> None:
    folder = resolve("builtin://demo")
    divisors = [{"multipleOf": each} for each in (9973, 9967, 9949, 9941)]
    with contextlib.closing(GrammarTrial(folder, VOCAB_SIZE, NUM_LANES)) as trial:
        queue = GrammarQueue(COMPILER, trial, quick_seconds=0.1, most_seconds=0.5)
        for number in range(3):  # more than are tried at once
            schema = {"type": "integer", "allOf": divisors[number:] + divisors[:number]}
            assert queue.must_wait(request_of(f"endless{number}", json=schema))
        assert queue.must_wait(request_of("small", regex="tried+"))
        assert queue.must_wait(request_of("wrong", json={"not": {}}))
        found: dict[str, InvalidParameterError | None] = {}
        while len(found) < 5:
            select.select([queue.wake_fd], [], [])
            found |= {request.request_id: error for request, error in queue.ready()}
        assert list(found)[-1].startswith("endless")
        assert found["small"] is None
        assert "Unimplemented keys" in str(found["wrong"])
        for number in range(3):
            assert "takes more than 0.5 seconds of CPU time, which" in str(
                found[f"endless{number}"]
            )
        assert trial.pid is not None  # of all of them
        os.kill(trial.pid, signal.SIGKILL)
        os.waitid(os.P_PID, trial.pid, os.WEXITED | os.WNOWAIT)
        assert trial.run(StructuredOutputsParams(regex="again"), [END], 3) is Outcome.COMPILED
        hung, server = trial.pid, trial._server
        assert hung is not None
        assert server is not None
        server.answer_seconds = 0.2
        os.kill(hung, signal.SIGSTOP)
        wanted = StructuredOutputsParams(regex="once more")
        assert trial.run(wanted, [END], 3) is Outcome.COMPILED
        assert trial.pid != hung


ENDLESS = {"allOf": [{"multipleOf": each} for each in (9973, 9967, 9949, 9941)]}


def test_a_refused_grammar_is_not_tried_again_but_one_whose_trial_was_killed_is() -> None:
    def children() -> list[int]:
        pid = trial.pid
        told = "" if pid is None else Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(each) for each in told.split()]

    compiler = GrammarCompiler(lambda: TOKENIZER, VOCAB_SIZE, max_refused=2)
    endless = StructuredOutputsParams(json={"type": "integer", **ENDLESS})
    with contextlib.closing(GrammarTrial(resolve("builtin://demo"), VOCAB_SIZE, 1)) as trial:
        tried = TriedGrammars(compiler, trial, most_seconds=60)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(tried.prepare, endless, [END])
            eventually(children)
            os.kill(children()[0], signal.SIGKILL)
            assert "Send it again" in str(waiting.exception())
        tried.most_seconds = 0.2
        for _ in range(2):
            with pytest.raises(InvalidParameterError, match=r"more than 0\.2 seconds of CPU"):
                tried.prepare(endless, [END])
            trial.close()
        assert trial.pid is None
    # The name of the field and where a schema stands are part of what was refused.
    with pytest.raises(InvalidParameterError, match=r"^tools cannot"):
        compiler.prepare(msgspec.structs.replace(WRONG, parameter="tools"), [END])
    with pytest.raises(InvalidParameterError, match=r"^structured_outputs cannot"):
        compiler.prepare(WRONG, [END])
    assert len(compiler._refused) == 2


WRONG = StructuredOutputsParams(json={"not": {}})


def test_each_limit_of_the_library_has_its_words() -> None:
    theirs = {
        "too many states: 25000": "25,000 states",
        "lexer error: too many expressions constructed": "200,000 steps of its expressions",
        "Current row has too many items (limit 20000)": "20,000 alternatives",
        "grammar size (number of symbols) too big (limit for this grammar: 9)": "200,000 symbols",
    }
    for why, words in theirs.items():
        assert words in on_one_line(why)


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        (0, Outcome.COMPILED),
        (signal.SIGPROF, Outcome.TIME),
        (1 << 8, Outcome.MEMORY),
        (signal.SIGSEGV, Outcome.CRASHED),
        (signal.SIGKILL, Outcome.KILLED),
        (signal.SIGALRM, Outcome.KILLED),
    ],
)
def test_how_a_trial_ended_is_told_by_its_status(told: int, outcome: Outcome) -> None:
    assert outcome_of(told) is outcome
