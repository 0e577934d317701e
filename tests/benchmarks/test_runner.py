"""A section that hangs, dies or fails costs itself and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.gpu.plan import Group, Process, Section, make_plan
from benchmarks.gpu.results import Outcome, SectionReport
from benchmarks.gpu.runner import Runner

# Speaks the worker's protocol; a section does what its name says.
WORKER = """
import json, os, sys, time
job = json.loads(sys.stdin.readline())
def send(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)
for name, budget in job["sections"]:
    send("start", section=name)
    send("row", row={"section": name, "roofline": job["roofline"]})
    if name == "hangs":
        time.sleep(60)
    if name == "dies":
        sys.exit("the device is gone")
    error = "ValueError: no" if name == "fails" else None
    send("end", seconds=0.1, outcome="failed" if error else "done", notes=[], error=error)
"""


def run_sections(
    tmp_path: Path, *names: str, total_seconds: float = 30, budget: float = 30
) -> dict[str, SectionReport]:
    sections = tuple(Section(name, Group.ENGINE, budget) for name in names)
    runner = Runner(
        tmp_path,
        is_smoke=True,
        total_seconds=total_seconds,
        worker=[sys.executable, "-c", WORKER],
        grace_seconds=0.2,
    )
    reports = runner.run([Process(Group.ENGINE, "tiny-llama", sections)])
    assert [report.section for report in reports] == list(names)
    return {report.section: report for report in reports}


def test_a_failing_section_is_recorded_and_the_next_one_runs(tmp_path: Path) -> None:
    reports = run_sections(tmp_path, "fails", "works")
    assert reports["fails"].outcome is Outcome.FAILED
    assert reports["fails"].error == "ValueError: no"
    assert reports["works"].outcome is Outcome.DONE


def test_a_process_that_dies_is_replaced_for_the_sections_that_are_left(tmp_path: Path) -> None:
    reports = run_sections(tmp_path, "works", "dies", "later")
    assert reports["dies"].outcome is Outcome.FAILED
    assert "the device is gone" in (reports["dies"].error or "")
    assert reports["dies"].rows, "what was measured before stands"
    assert reports["later"].outcome is Outcome.DONE


def test_a_section_that_hangs_is_killed_and_keeps_its_rows(tmp_path: Path) -> None:
    # The run's end bounds the section: the first section's allowance for start-up is a minute.
    reports: dict[str, SectionReport] = {}
    seconds = 1.0
    while not (reports and reports["hangs"].rows):  # a busy machine has not started it yet
        seconds *= 2
        reports = run_sections(tmp_path, "hangs", "later", total_seconds=seconds)
    assert reports["hangs"].outcome is Outcome.CUT
    assert reports["later"].outcome is Outcome.SKIPPED
    assert reports["hangs"].rows == [{"section": "hangs", "roofline": None}]


def test_a_plan_measures_all_engines_before_any_baseline() -> None:
    plan = make_plan(["llama-3.1-8b", "qwen3-0.6b", "mixtral-8x7b"], [], has_flashinfer=True)
    assert [(process.group, process.model) for process in plan] == [
        (Group.DEVICE, "llama-3.1-8b"),
        (Group.ENGINE, "llama-3.1-8b"),
        (Group.ENGINE, "qwen3-0.6b"),
        (Group.ENGINE, "mixtral-8x7b"),
        (Group.TRANSFORMERS, "llama-3.1-8b"),
        (Group.TRANSFORMERS, "qwen3-0.6b"),
        (Group.FLASHINFER, "llama-3.1-8b"),
        (Group.STATIC_CACHE, "llama-3.1-8b"),
    ]
    names = [section.name for section in plan[3].sections]
    assert "decode" in names
    assert "mix" not in names


def test_nothing_is_planned_for_a_package_that_is_not_there() -> None:
    plan = make_plan(["llama-3.1-8b"], [])
    assert Group.FLASHINFER not in {process.group for process in plan}


def test_chosen_sections_bring_the_ceilings_that_their_shares_need() -> None:
    plan = make_plan(["qwen3-0.6b"], ["decode"])
    assert [section.name for process in plan for section in process.sections] == [
        "device",
        "decode",
    ]
