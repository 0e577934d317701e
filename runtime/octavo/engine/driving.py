"""Driving an engine that lives in the caller's own process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from octavo.engine.messages import AddRequest, TokenOutput
from octavo.interrupts import deferred_interrupts

if TYPE_CHECKING:
    from octavo.engine.core import EngineCore


def drive(
    core: EngineCore,
    requests: Sequence[AddRequest],
    take: Callable[[TokenOutput], None],
) -> None:
    """Runs the requests to their end, or until `take` raises; nothing of them stays in the engine."""
    with deferred_interrupts() as let_through:
        try:
            for request in requests:
                core.add(request)
            while core.has_work:
                for output in core.step().outputs:
                    take(output)
                let_through()
        finally:
            core.abort(request.request_id for request in requests)
