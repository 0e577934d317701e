"""Crashes. What is said of a container that ended with an error and without last words of ours. Pure.

Where the runtime wrote no termination message, because it was killed, the kubelet passes on the end of its
log. Most lines of a log are no reason: that a server was ready says nothing of its end.
"""

from __future__ import annotations

import json
import signal

_SIGNALS = 128
"""What a shell and the kubelet add to the number of the signal that ended a process."""
_ERRORS = frozenset({"error", "critical", "exception"})
_LOOK = "`kubectl logs --previous` shows its last lines"


def crash(exit_code: int, log: str) -> str:
    """The exit code, the signal behind it and the line that says why, if one does.

    Args:
        exit_code: Not 0.
        log: The termination message: what the container left there, or the end of its log.
    """
    code, killer = f"exit code {exit_code}", _signal(exit_code)
    ended = f"{code}: {killer}" if killer else code
    return f"{ended}: {why}" if (why := _why(log.strip().splitlines())) else f"{ended}; {_LOOK}"


def _signal(exit_code: int) -> str:
    try:
        name = signal.Signals(exit_code - _SIGNALS).name
    except ValueError:
        return ""
    by = ", by the node or by hand" if name == "SIGKILL" else ""
    return f"killed by {name}{by}"


def _why(lines: list[str]) -> str:
    """The last line, where it is plain text, as a traceback's; else the last error of the log."""
    for index, line in enumerate(reversed(lines)):
        entry = _entry(line)
        if entry is None:
            if index == 0:
                return line
        elif str(entry.get("level", "")).lower() in _ERRORS:
            cause = str(entry.get("exception", "")).splitlines()[-1:]  # of a traceback
            cause = str(entry.get("error", "")).splitlines()[:1] or cause
            return ": ".join([str(entry["event"]), *cause])
    return ""


def _entry(line: str) -> dict[str, object] | None:
    """The line as an entry of a structured log; None where it is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None
