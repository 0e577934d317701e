"""Deadline of a request: the server's (`--request-timeout`) or, where that is sooner, the client's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from octavo.server.http.asgi import Scope, header
from octavo.server.openai.api_errors import ApiError, invalid_value, quoted

HEADER = "x-request-timeout"


@dataclass(frozen=True, slots=True)
class Deadline:
    """`at` is a time of the event loop's clock, `seconds` what it was counted from the request's arrival."""

    at: float
    seconds: float

    def passed(self) -> ApiError:
        """408. Clients of OpenAI's would send it again, and wait as long once more."""
        return ApiError(
            408,
            f"The request was not answered within {self.seconds:g} seconds "
            f"(--request-timeout, or its header {HEADER}). Ask for fewer tokens, or come when less waits.",
            error_type="timeout_error",
            code="request_timeout",
            headers={"x-should-retry": "false"},
        )


def read_deadline(scope: Scope, limit_seconds: float | None, now: float) -> Deadline | None:
    """Raises `ApiError` (400) for a header that is no number of seconds."""
    seconds = math.inf if limit_seconds is None else limit_seconds
    given = header(scope, HEADER.encode())
    if given is not None:
        seconds = min(seconds, _seconds(given))
    return None if math.isinf(seconds) else Deadline(now + seconds, seconds)


def _seconds(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise invalid_value(
            HEADER, f"{HEADER} is {quoted(given)}; it must be a number of seconds above 0."
        )
    return seconds
