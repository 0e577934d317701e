"""A process that computes is told from one that waits or was stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from octavo.server.process import health as health_module
from octavo.server.process.cpu_time import WorkMeter, read_cpu_seconds
from octavo.server.process.health import EngineHealth


def test_idle_is_what_should_work_and_uses_no_processor() -> None:
    meter = WorkMeter()
    for second in range(10):  # nothing to do
        meter.observe(cpu_seconds=1.0, is_busy=False, now=100.0 + second)
    assert meter.seconds_idle == 0
    for second in range(10, 20):  # a long step
        meter.observe(cpu_seconds=1.0 + second, is_busy=True, now=100.0 + second)
    assert meter.seconds_idle == 0
    for second in range(20, 30):  # frozen, but for what its other threads use
        meter.observe(cpu_seconds=21.0 + 0.01 * second, is_busy=True, now=100.0 + second)
    assert 9 <= meter.seconds_idle <= 10
    meter.observe(cpu_seconds=25.0, is_busy=True, now=130.0)
    assert meter.seconds_idle == 0


def test_looks_in_quick_succession_change_nothing() -> None:
    meter = WorkMeter()
    for look in range(1000):
        meter.observe(cpu_seconds=float(look // 100), is_busy=True, now=look / 100)
    assert meter.seconds_idle < 1


def test_what_cannot_be_told_is_no_idleness() -> None:
    meter = WorkMeter()
    for second in range(10):
        meter.observe(cpu_seconds=None, is_busy=True, now=float(second))
    assert meter.seconds_idle == 0
    assert read_cpu_seconds(2**22 + 1) is None


def test_a_stopped_process_uses_no_time() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            before = read_cpu_seconds(process.pid)
            assert before is not None
            deadline = time.monotonic() + 60
            while (read_cpu_seconds(process.pid) or 0) < before + 0.2:
                assert time.monotonic() < deadline
            stop(process)
            stopped = read_cpu_seconds(process.pid)
            time.sleep(0.3)
            assert read_cpu_seconds(process.pid) == stopped
        finally:
            process.kill()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Returns when it does: one that waits for a processor uses a little more first."""
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


@dataclass
class SilentEngine:
    """In a step that does not end."""

    pid: int
    is_alive: bool = True
    is_turning: bool = False
    num_messages: int = 1
    stats: Any = field(default_factory=lambda: SimpleNamespace(step=7))

    async def ping(self, _timeout: float) -> Any:
        raise TimeoutError


def test_a_long_step_stays_ready_and_a_frozen_engine_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        seconds_frozen = 0.0

        def clock() -> float:
            """Of a machine on which the engine always has a quarter of a core, however busy this one is."""
            return 4 * (read_cpu_seconds(process.pid) or 0.0) + seconds_frozen

        try:
            monkeypatch.setattr(health_module, "time", SimpleNamespace(monotonic=clock))
            health = EngineHealth(stall_timeout_seconds=3600)
            running: Any = SimpleNamespace(num_active=1, is_answering=True)
            health.attach(SilentEngine(process.pid), running)  # type: ignore[arg-type]

            def told() -> str | None:
                return asyncio.run(health.why_unready())

            while clock() < 6:
                assert told() is None
                time.sleep(0.02)
            stop(process)
            answers = []
            for _ in range(8):
                seconds_frozen += 1.0
                answers.append(told())
            assert set(answers[:3]) == {None}
            assert set(answers[5:]) == {"the engine does not answer"}
            assert health.stall is None
        finally:
            process.kill()
