"""Termination message. The last words of a start that failed: what the kubelet shows and the operator turns
into a condition."""

from __future__ import annotations

import bisect
import os
from pathlib import Path

import msgspec

MAX_BYTES = 4096  # the kubelet reads no more
PATH_VARIABLE = "OCTAVO_TERMINATION_LOG"
KUBERNETES_PATH = Path("/dev/termination-log")

USER_ERROR_STATUS = 3
INTERNAL_ERROR_STATUS = 1


def termination_log_path() -> Path | None:
    """`OCTAVO_TERMINATION_LOG`, or Kubernetes' default where it exists."""
    if configured := os.environ.get(PATH_VARIABLE):
        return Path(configured)
    return KUBERNETES_PATH if KUBERNETES_PATH.exists() else None


def encode_termination(reason: str, message: str) -> bytes:
    """`{"reason", "message"}` as JSON of at most `MAX_BYTES`; a longer message loses its end."""
    encoded = _encode(reason, message)
    if len(encoded) <= MAX_BYTES:
        return encoded
    # How many bytes a character takes depends on its escapes: search for the longest that fits.
    length = bisect.bisect_right(
        range(min(len(message), MAX_BYTES)),
        MAX_BYTES,
        key=lambda kept: len(_encode(reason, message[:kept] + "…")),
    )
    return _encode(reason, message[: length - 1] + "…")


def _encode(reason: str, message: str) -> bytes:
    return msgspec.json.encode({"reason": reason, "message": message})


def write_termination(reason: str, message: str) -> None:
    """Never raises: a full or read-only disk must not hide the error itself."""
    path = termination_log_path()
    if path is None:
        return
    try:
        path.write_bytes(encode_termination(reason, message))
    except OSError:
        return
