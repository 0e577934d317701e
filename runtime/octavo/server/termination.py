"""The last words of a start that failed: what the kubelet shows and the operator turns into a condition."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

MAX_BYTES = 4096  # the kubelet reads no more
_KUBERNETES_PATH = Path("/dev/termination-log")

USER_ERROR_STATUS = 3
INTERNAL_ERROR_STATUS = 1


def termination_log_path() -> Path | None:
    """`OCTAVO_TERMINATION_LOG`, or Kubernetes' default where it exists."""
    if configured := os.environ.get("OCTAVO_TERMINATION_LOG"):
        return Path(configured)
    return _KUBERNETES_PATH if _KUBERNETES_PATH.exists() else None


def encode_termination(reason: str, message: str) -> bytes:
    """`{"reason", "message"}` as JSON of at most `MAX_BYTES`; a longer message loses its end."""
    while True:
        encoded = msgspec.json.encode({"reason": reason, "message": message})
        excess = len(encoded) - MAX_BYTES
        if excess <= 0:
            return encoded
        # A character is at most 12 bytes of JSON, so this ends after few rounds.
        message = message[: len(message) - max(1, excess // 12 + 1)] + "…"


def write_termination(reason: str, message: str) -> None:
    """Never raises: a full or read-only disk must not hide the error itself."""
    path = termination_log_path()
    if path is None:
        return
    try:
        path.write_bytes(encode_termination(reason, message))
    except OSError:
        return
