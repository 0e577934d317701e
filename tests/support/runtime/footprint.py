"""Footprint. What a server's processes hold, and what of it is still there when nothing runs any more."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.runtime.server_process import ServerProcess


@dataclass(frozen=True)
class Footprint:
    """What a server and its children hold."""

    engine_pid: int
    resident_bytes: int
    num_files: int
    num_sockets: int
    folders: frozenset[str]

    @classmethod
    def of(cls, server: ServerProcess, temporary: Path) -> Footprint:
        """`temporary`: the server's own `TMPDIR`."""
        pids = (server.process.pid, *server.child_pids)
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
        files = [target for pid in pids for target in _open_files(pid)]
        return cls(
            server.engine_pid,
            pages * os.sysconf("SC_PAGE_SIZE"),
            len(files),
            sum(target.startswith("socket:") for target in files),
            frozenset(str(each.relative_to(temporary)) for each in temporary.rglob("*")),
        )


def _open_files(pid: int) -> Iterator[str]:
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield str(each.readlink())


def leaks(
    server: ServerProcess, temporary: Path, before: Footprint, most_bytes: int
) -> Iterator[str]:
    """What is not as it was, once what still ran has ended; it ends the server, too."""
    if (status := server.process.poll()) is not None:
        said = [line for line in server.stderr if '"level": "info"' not in line]
        yield f"the server ended with {status}: {''.join(said[-40:])}"
        return
    deadline = time.monotonic() + 60
    names = ("octavo_requests_running", "octavo_requests_waiting", "octavo_kv_cache_blocks_used")
    while True:
        busy = {name: number for name in names if (number := server.metrics()[name])}
        after = Footprint.of(server, temporary)
        if not busy and _is_as_before(before, after):
            break
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    if busy:
        yield f"still held: {busy}"
    yield from _differences(before, after, most_bytes)
    server.send(signal.SIGTERM)
    if (status := server.wait()) != 0:
        yield f"the server ended with {status} when it was told to"
    if left := [each.name for each in temporary.iterdir()]:
        yield f"it left behind: {left}"


def _differences(before: Footprint, after: Footprint, most_bytes: int) -> Iterator[str]:
    if after.engine_pid != before.engine_pid:
        yield "the engine is another process"
    if after.num_sockets > before.num_sockets:
        yield f"{after.num_sockets} open sockets, {before.num_sockets} before"
    if after.num_files > before.num_files:
        yield f"{after.num_files} open files, {before.num_files} before"
    if after.folders != before.folders:
        yield f"temporary files: {sorted(after.folders ^ before.folders)} came or went"
    if (grown := after.resident_bytes - before.resident_bytes) > most_bytes:
        yield f"{grown / 2**20:.0f} MiB more memory"


def _is_as_before(before: Footprint, after: Footprint) -> bool:
    return (
        after.num_files <= before.num_files
        and after.num_sockets <= before.num_sockets
        and after.folders == before.folders
    )
