"""Fronts. The API processes that one engine answers, beside the one that started it: who asked for what, and
whether it is admitted.

The engine decides on admission here, as it alone sees what all of them ask for. An API process opens a
*ticket* for each HTTP request, which counts until it is released or its process is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import zmq

from octavo.engine.admission import Admission
from octavo.engine.messages import (
    AddRequest,
    EngineStats,
    FromEngine,
    StepOutputs,
    TokenOutput,
)
from octavo.errors import QueueFullError

FRONTS_SOCKET = "fronts"
"""Name of their socket, in the folder of the engine's own."""


@dataclass(slots=True)
class _Ticket:
    """`num_to_come`: of its sequences, those whose requests are not here yet."""

    num_sequences: int
    tenant: str
    num_to_come: int
    refusal: QueueFullError | None = None


class Tickets:
    """What is admitted, by process and ticket. Pure but for its own counts."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._open: dict[bytes, dict[int, _Ticket]] = {}
        self._num_to_come = 0

    def check(
        self,
        front: bytes,
        request: AddRequest,
        stats: EngineStats,
        num_since: int,
        now: float,
    ) -> None:
        """Admits a ticket with its first request; the later ones share its fate.

        Args:
            num_since: Sequences that came after `stats`.

        Raises `QueueFullError`.
        """
        tickets = self._open.setdefault(front, {})
        ticket = tickets.get(request.ticket)
        if ticket is None:
            ticket = tickets[request.ticket] = self._new(request, stats, num_since, now)
        if ticket.refusal is not None:
            raise ticket.refusal
        come = min(request.sampling.n, ticket.num_to_come)
        ticket.num_to_come -= come
        self._num_to_come -= come

    def _new(self, request: AddRequest, stats: EngineStats, num_since: int, now: float) -> _Ticket:
        count, tenant = request.ticket_sequences, request.tenant
        num_under_way = num_since + self._num_to_come
        try:
            self._admission.admit(count, stats, num_under_way, now, tenant)
        except QueueFullError as error:
            return _Ticket(count, tenant, 0, error)
        self._num_to_come += count
        return _Ticket(count, tenant, count)

    def release(self, front: bytes, number: int) -> None:
        """An unknown one is ignored: its requests were never sent."""
        ticket = self._open.get(front, {}).pop(number, None)
        if ticket is not None and ticket.refusal is None:
            self._num_to_come -= ticket.num_to_come
            self._admission.release(ticket.num_sequences, ticket.tenant)

    def release_all(self, front: bytes) -> None:
        for number in list(self._open.get(front, {})):
            self.release(front, number)
        self._open.pop(front, None)

    def count_finished(self, outputs: Iterable[TokenOutput], now: float) -> None:
        for output in outputs:
            if output.finish_reason is not None and output.refusal is None:
                self._admission.count_finished(now)


class Fronts:
    """Their ROUTER socket.

    Args:
        address: To listen at.
        stats: As of now.
        is_alive: Whether the engine has something of this request yet.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        admission: Admission,
        stats: EngineStats,
        is_alive: Callable[[str], bool],
    ) -> None:
        self.stats = stats
        """As of the latest step: what the engine left waiting then."""
        self.tickets = Tickets(admission)
        self._is_alive = is_alive
        self._front_of: dict[str, bytes] = {}
        self._gone: set[bytes] = set()
        self._encoder = msgspec.msgpack.Encoder()
        self.socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self.socket.set_hwm(0)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(address)

    def receive(self) -> Iterator[tuple[bytes, bytes]]:
        """The messages that are there, each with the process that it is of. What is still on its way of one
        that is gone is dropped."""
        with suppress(zmq.Again):
            while True:
                front, frame = self.socket.recv_multipart(zmq.NOBLOCK)
                if front not in self._gone:
                    yield front, frame

    def note(self, front: bytes, request_id: str) -> None:
        """Whose request it is."""
        self._front_of[request_id] = front

    def forget_ended(self, request_ids: Iterable[str]) -> None:
        """Of these, nothing more is told of those that the engine has nothing of."""
        for request_id in request_ids:
            if not self._is_alive(request_id):
                self._front_of.pop(request_id, None)

    def forget(self, front: bytes) -> list[str]:
        """It is gone; returns its requests, which nobody waits for any more."""
        self._gone.add(front)
        self.tickets.release_all(front)
        request_ids = [name for name, owner in self._front_of.items() if owner == front]
        for request_id in request_ids:
            del self._front_of[request_id]
        return request_ids

    def send(self, front: bytes, message: FromEngine) -> None:
        """To one that is gone nothing is sent."""
        self.socket.send_multipart([front, self._encoder.encode(message)])

    def hand_out(self, step: StepOutputs, now: float) -> StepOutputs:
        """Sends each process its part of a step; returns what is left: of the process that started the
        engine, and the stats."""
        self.stats = step.stats
        parts: dict[bytes, list[TokenOutput]] = {}
        left = []
        for output in step.outputs:
            front = self._front_of.get(output.request_id)
            if front is None:
                left.append(output)
            else:
                parts.setdefault(front, []).append(output)
        for front, outputs in parts.items():
            self.tickets.count_finished(outputs, now)
            self.send(front, StepOutputs(outputs, step.stats))
            self.forget_ended(each.request_id for each in outputs if each.finish_reason is not None)
        return StepOutputs(left, step.stats)

    def close(self) -> None:
        self.socket.close()
