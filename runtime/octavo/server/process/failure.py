"""Failure. How a command ends that cannot go on: one line for a person and for Kubernetes, and a status."""

from __future__ import annotations

import sys

from octavo.errors import InvalidConfigurationError, OctavoError, UserError
from octavo.server.process.flag_names import in_flags
from octavo.server.process.termination import (
    INTERNAL_ERROR_STATUS,
    USER_ERROR_STATUS,
    write_termination,
)


def fail(error: Exception) -> int:
    """Leaves the last words where Kubernetes and a person look for them; returns the exit status."""
    reason = error.reason if isinstance(error, OctavoError) else OctavoError.reason
    message = str(error)
    if isinstance(error, InvalidConfigurationError):
        message = in_flags(message)
    if not isinstance(error, OctavoError):
        message = f"{type(error).__name__}: {message} (--log-level debug shows where)."
    write_termination(reason, message)
    print(f"octavo: {reason}: {' '.join(message.split())}", file=sys.stderr)
    return USER_ERROR_STATUS if isinstance(error, UserError) else INTERNAL_ERROR_STATUS
