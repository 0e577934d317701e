"""Processes: programs started as argument lists, kept quiet or shown, ended with all their children."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from host.errors import CommandError, ToolError


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    stdin: str | None = None,
    timeout_seconds: float | None = None,
) -> str:
    """Run to the end and return stdout; stdout and stderr are appended to `log` if given.

    Raises `CommandError` when the status is not 0 or the program takes longer than
    `timeout_seconds`, `ToolError` when it is missing. The program is killed with all its children
    when this call is interrupted.
    """
    arguments = [str(part) for part in command]
    try:
        process = subprocess.Popen(
            arguments,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    except FileNotFoundError as error:
        raise ToolError(f"The program {arguments[0]} was not found") from error
    try:
        out, err = process.communicate(stdin, timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        _kill_group(process)
        late = f"no end after {timeout_seconds:g} s"
        raise CommandError(arguments, late, log=log) from error
    except BaseException:
        _kill_group(process)
        raise
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"$ {shlex.join(arguments)}\n{out}{err}\n")
    if process.returncode != 0:
        raise CommandError(arguments, err or out, status=process.returncode, log=log)
    return out


def run_visibly(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> None:
    """Run to the end with all output on stderr as it comes; raises `CommandError` when it fails.

    Ctrl-C reaches the program as it reaches us, so that it can tidy up itself.
    """
    arguments = [str(part) for part in command]
    sys.stderr.flush()
    status = subprocess.run(
        arguments, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=env, check=False
    ).returncode
    if status != 0:
        raise CommandError(arguments, "its output is above", status=status)


def succeeds(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    timeout_seconds: float | None = 20.0,
) -> bool:
    """Whether the program exists, ends in time and reports success."""
    try:
        run(command, env=env, timeout_seconds=timeout_seconds)
    except ToolError:
        return False
    return True


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which process `pid` began, or None when there is none.

    Together with the pid it names a process for good: a reused pid has another start time.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the name in parentheses and may hold spaces; start time is field 22.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def wait_until_gone(pid: int, timeout_seconds: float) -> bool:
    """Wait for the process to end; False when it still runs after the time."""
    deadline = time.monotonic() + timeout_seconds
    while start_time(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _end_with_parent() -> None:
    """In the child: be killed when our own process is, which then can't do it itself."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
