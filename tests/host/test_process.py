"""Programs are run to the end, killed with their children, and told apart by pid and start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from host.errors import CommandError, ToolError
from host.process import run, run_visibly, start_time, succeeds, wait_until_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_output_is_returned_and_logged(tmp_path: Path) -> None:
    log = tmp_path / "logs/x.log"
    assert run(["echo", "hello world"], log=log) == "hello world\n"
    assert "hello world" in log.read_text()


def test_a_failure_carries_status_output_and_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with pytest.raises(CommandError) as caught:
        run([sys.executable, "-c", "import sys; sys.exit('no disk')"], log=log)
    assert caught.value.status == 1
    assert "no disk" in str(caught.value)
    assert str(log) in str(caught.value)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ToolError, match="octavo-no-such-program"):
        run(["octavo-no-such-program"])
    assert not succeeds(["octavo-no-such-program"])


def test_time_out_kills_the_children_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = (
        "import subprocess, pathlib, time; child = subprocess.Popen(['sleep', '60']);"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid)); time.sleep(60)"
    )
    seconds = 1
    while not (pid_file.exists() and pid_file.read_text()):  # a busy machine has not started it yet
        seconds *= 2
        with pytest.raises(ToolError, match=f"no end after {seconds} s"):
            run([sys.executable, "-c", script], timeout_seconds=seconds)
    assert wait_until_gone(int(pid_file.read_text()), 60)


def test_start_time_names_a_process_for_good() -> None:
    child = subprocess.Popen(["sleep", "60"])
    first = start_time(child.pid)
    assert first is not None
    assert first == start_time(child.pid)
    assert first >= (start_time(os.getpid()) or 0)
    child.kill()
    deadline = time.monotonic() + 60
    while start_time(child.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert start_time(child.pid) is None  # a zombie does not count as running
    child.wait()


def test_a_program_ends_with_the_command_that_was_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = (
        f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))"
    )
    script = (
        "import sys; from host.process import run;"
        f"run([sys.executable, '-c', {child + '; time.sleep(60)'!r}])"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int(pid_file.read_text())
    assert start_time(pid) is not None
    parent.kill()
    parent.wait()
    assert wait_until_gone(pid, 60)


def test_a_visible_program_prints_as_it_runs_and_stdout_stays_ours(
    capfd: pytest.CaptureFixture[str],
) -> None:
    run_visibly(["echo", "layer 1"])
    assert capfd.readouterr() == ("", "layer 1\n")
    with pytest.raises(CommandError, match="ended with status 3"):
        run_visibly([sys.executable, "-c", "raise SystemExit(3)"])
