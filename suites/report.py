"""Results of a suite's run, by the names of its cases, from pytest, node's test runner or Go's."""

from __future__ import annotations

import json
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from suites.environment import HERE, PYTHON, ROOT, Suite

# Of one suite; the longest takes a minute on two quiet cores.
TIMEOUT_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Result:
    """`why` is empty where the case passed."""

    case: str
    passed: bool
    why: str = ""


def results(suite: Suite, environment: Mapping[str, str]) -> list[Result]:
    """Runs a suite; cases that it skips are left out.

    Raises:
        RuntimeError: Nothing ran.
    """
    run = {"python": _pytest, "node": _node, "go": _go}[suite.language]
    found, output = run(suite, environment)
    if not found:
        raise RuntimeError(f"{suite.name}: no case ran\n{output[-4000:]}")
    return found


def _pytest(suite: Suite, environment: Mapping[str, str]) -> tuple[list[Result], str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        output = _output(
            [
                *(PYTHON, "-m", "pytest", "-c", HERE / "pytest.ini", "--rootdir", ROOT, "-q"),
                *("--tb=short", f"--junitxml={report}", HERE / suite.file),
            ],
            ROOT,
            # The cases are imported by name, and nothing else of the tree is.
            {**environment, "PYTHONPATH": str(ROOT)},
        )
        return (from_junit(report.read_text(encoding="utf-8")) if report.exists() else []), output


def _node(suite: Suite, environment: Mapping[str, str]) -> tuple[list[Result], str]:
    output = _output(
        ["node", "--test", "--test-reporter=junit", Path(suite.file).name], HERE / "js", environment
    )
    return from_junit(output[output.find("<?xml") : output.rfind(">") + 1]), output


def _go(suite: Suite, environment: Mapping[str, str]) -> tuple[list[Result], str]:
    output = _output(["go", "test", "-json", "-count=1", "./..."], HERE / "go", environment)
    return from_go(output), output


def from_junit(text: str) -> list[Result]:
    """Of JUnit's XML."""
    found = []
    for case in ET.fromstring(text).iter("testcase"):  # noqa: S314 - written by the runner just started
        if case.find("skipped") is not None:
            continue
        fault = case.find("failure")
        if fault is None:
            fault = case.find("error")
        why = "" if fault is None else (fault.get("message") or fault.text or "failed")
        found.append(Result(str(case.get("name")), fault is None, why))
    return found


def from_go(text: str) -> list[Result]:
    """Of `go test -json`."""
    found, printed = [], dict[str, str]()
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        case = event.get("Test")
        if case is None:
            continue
        if event["Action"] == "output":
            printed[case] = printed.get(case, "") + event["Output"]
        elif event["Action"] in ("pass", "fail"):
            passed = event["Action"] == "pass"
            found.append(Result(case, passed, "" if passed else printed.get(case, "")))
    return found


def _output(command: list[str | Path], where: Path, environment: Mapping[str, str]) -> str:
    kept = {k: v for k, v in environment.items() if k != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        command,
        cwd=where,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return done.stdout
