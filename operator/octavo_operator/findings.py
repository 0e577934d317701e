"""Findings: what stands in the way of what a spec asks for, as the status tells it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from octavo_operator.api.conditions import Reason

_MESSAGE_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """What stands in the way, in one word and in a sentence."""

    reason: Reason
    message: str
    since: datetime | None = None
    """Since when it stands in the way, where that is known."""
    is_shortage: bool = False
    """Whether room is missing that other pods take, so that one of them less would do."""
    may_pass: bool = False
    """Whether it is a fault of what was asked, such as a webhook that starts anew, and no verdict."""


def shortened(text: str) -> str:
    """Not longer than a status can take."""
    return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…"
