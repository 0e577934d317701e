"""Ops port of the pods: asks those that start how far they have come, and those that serve what it is.

It is no way to be slowed down or misled: few questions at a time, each with a short time, an answer of few
bytes that is read into numbers and nothing else, no redirect, no cookie. A pod that does not answer, or not
as it should, has told nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

import aiohttp
import structlog
from pydantic import ValidationError

from octavo_operator.manifest import ObjectKey
from octavo_operator.names import OPS_PORT
from octavo_operator.startups import Question, StartupReport

log = structlog.get_logger()

PODS_AT_A_TIME = 64
"""How many are asked in one pass, of all objects: so many statuses are written after it at most."""

_AT_ONCE = 16
_LONGEST_ANSWER = 16 * 1024


class Asking(Protocol):
    """Who has questions to pods."""

    def questions(self, limit: int) -> list[Question]:
        """At most so many."""

    def hear(self, answers: Iterable[tuple[Question, StartupReport | None]]) -> set[ObjectKey]:
        """The answers, None where there was none; returns the objects of which there is news."""


class OpsPort:
    """Asks by the pods' addresses, which Kubernetes gives them.

    Args:
        timeout_seconds: For a whole answer.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def ask(self, asking: Asking) -> set[ObjectKey]:
        """One pass over pods; returns the objects of which there is news."""
        questions = asking.questions(PODS_AT_A_TIME)
        if not questions:
            return set()
        # Connections live for one question: the next is seconds away, and the pod may be gone by then.
        async with aiohttp.ClientSession(
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as session:
            # Not the connector's limit: who waited for it would lose of its own time.
            turns = asyncio.Semaphore(_AT_ONCE)
            reports = await asyncio.gather(*(_ask(session, each, turns) for each in questions))
        return asking.hear(zip(questions, reports, strict=True))


async def _ask(
    session: aiohttp.ClientSession, question: Question, turns: asyncio.Semaphore
) -> StartupReport | None:
    url = startupz_url(question.run.address)
    try:
        async with turns, session.get(url, allow_redirects=False) as answer:
            body = await _bounded(answer.content)
            if answer.status not in (200, 503) or body is None:
                return None
        return StartupReport.model_validate_json(body)
    except (aiohttp.ClientError, OSError, ValidationError, ValueError) as error:
        log.debug("a pod told nothing", pod=question.pod, error=str(error) or type(error).__name__)
        return None


async def _bounded(content: aiohttp.StreamReader) -> bytes | None:
    """The whole body; None where it is longer than an answer can be."""
    body = b""
    async for part in content.iter_any():
        body += part
        if len(body) > _LONGEST_ANSWER:
            return None
    return body


def startupz_url(address: str) -> str:
    """Of a pod with this address."""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{OPS_PORT}/startupz"
