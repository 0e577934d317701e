"""Gate. Who may have something run, as the routes ask it: a request holds a ticket until it is over."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Protocol

from octavo.engine.admission import Admission
from octavo.engine.client import EngineClient
from octavo.engine.front_client import FrontClient


@dataclass(frozen=True, slots=True)
class Ticket:
    """For so many sequences. `number` is the engine's way to know it; 0 where it does not decide."""

    num_sequences: int
    tenant: str
    number: int = 0


class Gate(Protocol):
    def admit(self, num_sequences: int, tenant: str) -> Ticket:
        """To be released when the request is over.

        Raises `QueueFullError`; where the engine decides, its requests end with that instead.
        """
        ...

    def release(self, ticket: Ticket) -> None: ...

    def count_finished(self) -> None:
        """A sequence ended."""


class OwnGate:
    """Of the only API process, which knows itself what it sent."""

    def __init__(self, client: EngineClient, admission: Admission) -> None:
        self._client = client
        self._admission = admission

    def admit(self, num_sequences: int, tenant: str) -> Ticket:
        client, now = self._client, time.monotonic()
        self._admission.admit(num_sequences, client.stats, client.num_under_way, now, tenant)
        return Ticket(num_sequences, tenant)

    def release(self, ticket: Ticket) -> None:
        self._admission.release(ticket.num_sequences, ticket.tenant)

    def count_finished(self) -> None:
        self._admission.count_finished(time.monotonic())


class EngineGate:
    """Of one API process of several: the engine admits, which alone sees them all (see `Fronts`)."""

    def __init__(self, client: FrontClient) -> None:
        self._client = client
        self._numbers = itertools.count(1)

    def admit(self, num_sequences: int, tenant: str) -> Ticket:
        return Ticket(num_sequences, tenant, next(self._numbers))

    def release(self, ticket: Ticket) -> None:
        self._client.release(ticket.number)

    def count_finished(self) -> None:
        """The engine has seen it."""
