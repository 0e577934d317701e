"""Bucket in memory: fsspec's own file system in place of S3, with the same interface and no credentials."""

from __future__ import annotations

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem


def memory_bucket(monkeypatch: pytest.MonkeyPatch) -> MemoryFileSystem:
    """Empty; every bucket is of it until the test ends."""
    filesystem = MemoryFileSystem()
    filesystem.store.clear()
    monkeypatch.setattr(fsspec, "filesystem", lambda _protocol, **_: filesystem)
    return filesystem
