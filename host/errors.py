"""Errors. What a development tool tells its user, so that the reader knows the next step."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

_TAIL_LINES = 12
_LONGEST_WORD = 200


class ToolError(Exception):
    """Something that the user can act on: what happened, where it is logged, what to do.

    `message` names the thing and the value, `hint` the next step, `log` the file with the details.
    """

    def __init__(self, message: str, *, hint: str = "", log: Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log

    def __str__(self) -> str:
        parts = [self.message]
        if self.hint:
            parts.append(self.hint)
        if self.log:
            parts.append(f"The details are in {self.log}")
        return "\n".join(parts)


class CommandError(ToolError):
    """A program that ended with an error (`status`), or did not end in time (None).

    `answer` is all that it said; the message quotes the end of it.
    """

    def __init__(
        self,
        command: Sequence[str],
        answer: str,
        *,
        status: int | None = None,
        log: Path | None = None,
    ) -> None:
        tail = "\n".join(answer.strip().splitlines()[-_TAIL_LINES:])
        how = "failed" if status is None else f"ended with status {status}"
        super().__init__(f"`{readable(command)}` {how}:\n{tail}", log=log)
        self.status = status
        self.answer = answer


def readable(command: Sequence[str]) -> str:
    """The command as one would type it; long arguments (scripts, JSON) are cut."""
    return shlex.join([word if len(word) <= _LONGEST_WORD else f"{word[:80]}…" for word in command])
