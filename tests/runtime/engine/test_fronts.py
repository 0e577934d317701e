"""Several API processes before one engine: who is admitted, who gets which output, and what is left of one
that is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.admission import Admission
from octavo.engine.fronts import Fronts, Tickets
from octavo.engine.messages import AddRequest, EngineStats, FromEngine, StepOutputs, TokenOutput
from octavo.errors import QueueFullError
from octavo.outputs import FinishReason
from octavo.sampling_params import SamplingParams

A, B = b"api-1", b"api-2"


def stats(running: int = 0, waiting: int = 0) -> EngineStats:
    return EngineStats(1, running, waiting, 100, 0, 0, 0, 0, 0)


def request(name: str, ticket: int, size: int = 1, n: int = 1) -> AddRequest:
    sampling = SamplingParams(n=n)
    return AddRequest(name, [1], sampling, ticket=ticket, ticket_sequences=size)


def test_the_bound_holds_over_all_processes_and_all_of_a_ticket_share_its_fate() -> None:
    tickets, idle = Tickets(Admission(max_queued=2, max_running=4)), stats()
    tickets.check(A, request("a", 1, size=3), idle, 0, 0.0)  # two more of it are to come
    tickets.check(B, request("b", 1, size=2, n=2), idle, 1, 0.0)
    for number in (2, 2):
        with pytest.raises(QueueFullError, match="5 sequences wait"):
            tickets.check(B, request("c", number, size=2), idle, 3, 0.0)
    tickets.check(A, request("a", 1), idle, 3, 0.0)
    with pytest.raises(QueueFullError, match="5 sequences wait"):
        tickets.check(B, request("c", 3, size=2), idle, 4, 0.0)
    tickets.release_all(A)
    tickets.check(B, request("c", 4, size=2), idle, 4, 0.0)


@given(st.lists(st.tuples(st.sampled_from((A, B)), st.integers(1, 4), st.integers(0, 3))))
def test_nothing_stays_counted_of_what_is_over(
    steps: list[tuple[bytes, int, int]],
) -> None:
    admission = Admission(max_queued=6, max_running=2)
    tickets = Tickets(admission)
    for front, number, size in steps:
        if size == 0:
            tickets.release(front, number)
            continue
        with contextlib.suppress(QueueFullError):
            tickets.check(front, request("r", number, size=size), stats(), 0, 0.0)
    for front in (A, B):
        tickets.release_all(front)
    assert (tickets._num_to_come, dict(admission._of_tenant)) == (0, {})


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_each_process_gets_its_own_and_the_dead_one_nothing(
    context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path
) -> None:
    address, alive = f"ipc://{tmp_path}/fronts", {"two"}
    fronts = Fronts(context, address, Admission(9, 9), stats(), alive.__contains__)
    sockets = {}
    for name in (A, B):
        sockets[name] = context.socket(zmq.DEALER)
        sockets[name].setsockopt(zmq.ROUTING_ID, name)
        sockets[name].connect(address)
        sockets[name].send(b"hello")
    heard: dict[bytes, bytes] = {}
    while len(heard) < 2:
        fronts.socket.poll()
        heard |= dict(fronts.receive())
    assert heard == {A: b"hello", B: b"hello"}
    for front, request_id in ((A, "one"), (A, "two"), (B, "three")):
        fronts.note(front, request_id)
    ends = [TokenOutput(name, 0, [7], FinishReason.STOP) for name in ("one", "two", "three", "own")]
    left = fronts.hand_out(StepOutputs(ends, stats(running=5)), 0.0)
    assert [output.request_id for output in left.outputs] == ["own"]
    for front, expected in ((A, ["one", "two"]), (B, ["three"])):
        message = msgspec.msgpack.decode(sockets[front].recv(), type=FromEngine)
        assert isinstance(message, StepOutputs)
        assert [output.request_id for output in message.outputs] == expected
        assert message.stats == left.stats
    assert fronts.forget(A) == ["two"]  # the other completion of which still runs
    sockets[A].send(b"late")
    sockets[B].send(b"more")
    fronts.socket.poll()
    heard_later: list[tuple[bytes, bytes]] = []
    while not heard_later:
        heard_later = list(fronts.receive())
    assert heard_later == [(B, b"more")]
