"""Engine failures: what the engine says of a request that it lost, logged under the request's id and made an
error for its client."""

from __future__ import annotations

from typing import Protocol

import structlog

from octavo.server.openai.api_errors import ApiError, engine_failed

log = structlog.get_logger("octavo.server")


class _Failed(Protocol):
    """A `TokenOutput`, or its `Delta`, that ends with an error."""

    @property
    def error(self) -> str | None: ...
    @property
    def fails_again(self) -> bool: ...


def engine_failure(output: _Failed, request_id: str) -> ApiError:
    """500, to be raised."""
    log.error("engine failed on a request", request_id=request_id, error=output.error)
    return engine_failed(output.error, fails_again=output.fails_again)
