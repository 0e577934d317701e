"""Runner. Starts the measuring processes one after another and keeps them to their time."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu.formulas import Roofline
from benchmarks.gpu.models import write_folder
from benchmarks.gpu.plan import Process, Section
from benchmarks.gpu.results import Outcome, SectionReport

REPOSITORY = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0  # Python, torch and CUDA, before a process's first section begins


class Runner:
    """Runs a plan.

    Args:
        work: For model folders and logs.
        total_seconds: Of the whole run; sections that would start later are skipped, and budgets shrink
            to what is left.
        on_report: Called with every section's report as it ends.
        worker: The measuring process's command.
        grace_seconds: A section ends itself at its budget, between two steps; past this much more its
            process is killed.
    """

    def __init__(
        self,
        work: Path,
        *,
        is_smoke: bool,
        total_seconds: float,
        on_report: Callable[[SectionReport], None] = lambda _: None,
        worker: Sequence[str] = (sys.executable, "-m", "benchmarks.gpu.worker"),
        grace_seconds: float = 15.0,
    ) -> None:
        self._work = work
        self._is_smoke = is_smoke
        self._deadline = time.monotonic() + total_seconds
        self._on_report = on_report
        self._worker = list(worker)
        self._grace_seconds = grace_seconds
        self._roofline: Roofline | None = None
        self.reports: list[SectionReport] = []

    def run(self, plan: Sequence[Process]) -> list[SectionReport]:
        for process in plan:
            left = list(process.sections)
            while left:
                done = self._run_process(process, left)
                left = left[done:]
        return self.reports

    def _run_process(self, process: Process, sections: Sequence[Section]) -> int:
        """Runs the sections in one process, as far as it lives; how many were reported, at least one."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            for section in sections:
                note = "the run's time was up"
                self._report(
                    SectionReport(section.name, process.model, Outcome.SKIPPED, notes=[note])
                )
            return len(sections)
        log = self._work / f"{process.group.value}-{process.model}.log"
        with log.open("a") as stderr:
            child = subprocess.Popen(
                self._worker,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=REPOSITORY,
                env=os.environ | ({"OMP_NUM_THREADS": "1"} if self._is_smoke else {}),
            )
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(self._job(process, sections, left)) + "\n")
            child.stdin.flush()
            return self._follow(process, sections, _lines(child.stdout), log)
        finally:
            child.kill()
            child.wait()

    def _job(self, process: Process, sections: Sequence[Section], left: float) -> dict[str, Any]:
        roofline = self._roofline
        return {
            "is_smoke": self._is_smoke,
            "model": process.model,
            "folder": str(write_folder(process.model, self._work)),
            "sections": [(section.name, min(section.budget, left)) for section in sections],
            "roofline": None
            if roofline is None
            else {"bandwidth": roofline.bandwidth, "matrix_rate": roofline.matrix_rate},
            "started": time.time(),
        }

    def _follow(
        self,
        process: Process,
        sections: Sequence[Section],
        lines: queue.Queue[dict[str, Any] | None],
        log: Path,
    ) -> int:
        for index, section in enumerate(sections):
            report = SectionReport(section.name, process.model, Outcome.FAILED)
            started = time.monotonic()
            if started > self._deadline:
                return index if index else self._skip(report)
            limit = started + section.budget + (0 if index else _START_SECONDS)
            limit = min(limit, self._deadline) + self._grace_seconds
            is_alive = _collect(report, lines, limit)
            if not is_alive and report.error is None and report.outcome is Outcome.FAILED:
                report.error = f"the measuring process ended: {_tail(log)}"
            report.seconds = report.seconds or time.monotonic() - started
            self._report(report)
            if not is_alive:
                return index + 1
        return len(sections)

    def _skip(self, report: SectionReport) -> int:
        report.outcome = Outcome.SKIPPED
        report.notes.append("the run's time was up")
        self._report(report)
        return 1

    def _report(self, report: SectionReport) -> None:
        if report.section == "device" and report.rows:
            row = report.rows[0]
            self._roofline = Roofline(
                bandwidth=row["bandwidth_gb_per_second"] * 1e9,
                matrix_rate=row["matrix_tflops"] * 1e12,
            )
        self.reports.append(report)
        self._on_report(report)


def _collect(
    report: SectionReport, lines: queue.Queue[dict[str, Any] | None], limit: float
) -> bool:
    """Fills the report with one section's events; whether the process is still of use afterwards."""
    while True:
        try:
            event = lines.get(timeout=max(0.0, limit - time.monotonic()))
        except queue.Empty:
            report.outcome = Outcome.CUT
            report.notes.append("killed: it did not end within its budget")
            return False
        if event is None:
            return False
        if event["event"] == "row":
            report.rows.append(event["row"])
        elif event["event"] == "end":
            report.outcome = Outcome(event["outcome"])
            report.seconds = event["seconds"]
            report.notes += event["notes"]
            report.error = event["error"]
            return True


def _lines(stream: IO[str]) -> queue.Queue[dict[str, Any] | None]:
    """Events as they come; None when the process closed its stdout."""
    events: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        for line in stream:
            events.put(json.loads(line))
        events.put(None)

    threading.Thread(target=read, daemon=True).start()
    return events


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-800:]
