"""Queue of grammars: requests wait beside the steps for theirs, and a fault is one request's alone."""

from __future__ import annotations

import select
import threading
from concurrent.futures import wait

from octavo.engine.grammars import GrammarCompiler, GrammarQueue
from octavo.engine.messages import AddRequest
from octavo.sampling_params import SamplingParams
from octavo.tokenizer import Tokenizer
from tests.support.runtime.demo_grammars import BYTES, TOKENIZER, request_of


def test_requests_wait_beside_the_steps_until_their_grammar_is_there() -> None:
    may_go_on = threading.Event()

    def slow() -> Tokenizer:
        assert may_go_on.wait(60)
        return TOKENIZER

    queue = GrammarQueue(GrammarCompiler(slow, len(BYTES)))
    assert not queue.must_wait(AddRequest("plain", [3], SamplingParams()))
    for name in ("first", "gone", "second"):
        assert queue.must_wait(request_of(name, regex="a+"))
    assert queue.must_wait(request_of("wrong", regex="a("))
    assert queue.ready() == []
    assert queue.abort(["gone", "other"]) == 1
    may_go_on.set()
    # Two threads compile: which of them is through first is nobody's promise.
    wait([future for _, future in queue._waiting.values()])
    found = queue.ready()
    assert [request.request_id for request, _ in found] == ["first", "second", "wrong"]
    assert [error is None for _, error in found] == [True, True, False]


def test_who_polls_rests_after_all_that_waited_were_aborted() -> None:
    may_go_on = threading.Event()

    def slow() -> Tokenizer:
        assert may_go_on.wait(60)
        return TOKENIZER

    queue = GrammarQueue(GrammarCompiler(slow, len(BYTES)))
    try:
        for name in ("first", "second"):
            assert queue.must_wait(request_of(name, regex=f"{name}+"))
        assert queue.abort(["first", "second"]) == 2
        assert queue.ready() == []
        assert select.select([queue.wake_fd], [], [], 0)[0] == []
    finally:
        may_go_on.set()


def test_a_fault_of_the_library_ends_its_request_alone() -> None:
    def broken() -> Tokenizer:
        raise RuntimeError("panic")

    queue = GrammarQueue(GrammarCompiler(broken, len(BYTES)))
    assert queue.must_wait(request_of("a", regex="a+"))
    while not (found := queue.ready()):
        pass
    ((_, error),) = found
    assert error is not None
    assert "could not be compiled" in str(error)
