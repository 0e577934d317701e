"""What can go wrong with a cluster, told so that the reader knows the next step."""

from __future__ import annotations

from pathlib import Path


class ClusterError(Exception):
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


class CommandError(ClusterError):
    """A program ended with an error; `output` is the end of what it printed."""

    def __init__(self, command: str, status: int, output: str, *, log: Path | None = None) -> None:
        tail = "\n".join(output.strip().splitlines()[-12:])
        super().__init__(f"`{command}` ended with status {status}:\n{tail}", log=log)
        self.status = status
        self.output = output
