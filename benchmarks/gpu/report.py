"""Report. The run as JSON and as tables, and the ratios to transformers where both sides ran the same
load."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.cpu.hardware import describe_hardware
from benchmarks.gpu.results import Outcome, Row, SectionReport

_PACKAGES = ("octavo", "torch", "triton", "transformers", "flashinfer-python", "flash-attn")


def to_json(reports: Sequence[SectionReport], *, is_smoke: bool, seconds: float) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "is_smoke": is_smoke,
        "warning": "smoke run: its figures mean nothing" if is_smoke else None,
        "seconds": round(seconds, 1),
        "gpu": gpu_name(),
        "hardware": describe_hardware(),
        "versions": {
            "python": platform.python_version(),
            "cuda": torch.version.cuda,
            **_versions(),
        },
        "not_measured": not_measured(reports),
        "sections": [report.to_json() for report in reports],
        "ratios": ratios(reports),
        "attention_ratios": attention_ratios(reports),
    }


def gpu_name() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def not_measured(reports: Sequence[SectionReport]) -> list[str]:
    """A line for every section that did not run to its end, and why: what a reader must know first."""
    return [
        f"{report.section} of {report.model}: {report.outcome.value}"
        + "".join(f"; {reason[:200]}" for reason in (report.error, *report.notes) if reason)
        for report in reports
        if report.outcome is not Outcome.DONE
    ]


def ratios(reports: Sequence[SectionReport]) -> list[Row]:
    """Octavo's output rate over each baseline's, of the same requests."""
    found = []
    for report in reports:
        if report.section not in ("generate", "generate_batch", "generate_static"):
            continue
        ours = {row["load"]: row for row in _rows(reports, "versus", report.model)}
        for row in report.rows:
            same = ours.get(row["load"])
            rate = row["output_tokens_per_second"]
            found.append(
                {
                    "model": report.model,
                    "baseline": row["baseline"],
                    "load": row["load"],
                    "ratio": same and round(same["output_tokens_per_second"] / rate, 2),
                }
            )
    return found


def attention_ratios(reports: Sequence[SectionReport]) -> list[Row]:
    """FlashInfer's time over Octavo's at each point that both were timed at: above 1 Octavo is faster."""
    point = ("shape", "batch", "context")
    rows = {
        section: {
            tuple(row[name] for name in point): row["microseconds"]
            for report in reports
            if report.section == section
            for row in report.rows
            if "microseconds" in row
        }
        for section in ("attention", "flashinfer_decode")
    }
    ours, theirs = rows["attention"], rows["flashinfer_decode"]
    return [
        {**dict(zip(point, key, strict=True)), "ratio": round(theirs[key] / ours[key], 2)}
        for key in ours
        if key in theirs
    ]


def print_tables(
    console: Console, reports: Sequence[SectionReport], *, is_smoke: bool = False
) -> None:
    if lines := not_measured(reports):
        console.print("Not measured, or not to the end:")
        for line in lines:
            console.print(f"  {line}", markup=False)
    for report in reports:
        print_report(console, report)
    if rows := ratios(reports):
        console.print(_table("octavo / transformers", rows))
    if rows := attention_ratios(reports):
        console.print(_table("FlashInfer's time / octavo's", rows))
    if is_smoke:
        console.print("Smoke run: every section ran at tiny sizes; the figures mean nothing.")


def print_report(console: Console, report: SectionReport) -> None:
    title = f"{report.section} · {report.model} · {report.outcome.value}, {report.seconds:.1f} s"
    if report.rows:
        console.print(_table(title, report.rows))
    else:
        console.print(title)
    for note in report.notes:
        console.print(f"  {note}", markup=False)
    if report.outcome is Outcome.FAILED:
        console.print(f"  {report.error}", markup=False)


def _table(title: str, rows: Sequence[Row]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*[column.replace("_", " ") for column in columns], title=title)
    for row in rows:
        table.add_row(*[_cell(row.get(column)) for column in columns])
    return table


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return str(value)


def _rows(reports: Sequence[SectionReport], section: str, model: str) -> list[Row]:
    return [
        row
        for report in reports
        if report.section == section and report.model == model
        for row in report.rows
    ]


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
