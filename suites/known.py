"""Known failures: which cases do not pass, and why; whatever else fails, or passes, is told."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from suites.report import Result

FILE = Path(__file__).with_name("known_failures.toml")
# A suite's cases, each with the reason.
Known = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts, and what is not as expected."""

    passed: int
    known: int
    complaints: tuple[str, ...]

    def __str__(self) -> str:
        told = f"{self.passed} passed, {self.known} known to fail"
        return f"{told}, {len(self.complaints)} not as expected" if self.complaints else told


def read_known() -> Known:
    """The file's reasons by suite and case."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def compare(suite: str, found: list[Result], known: Known) -> Verdict:
    """Everything must pass but what is known to fail, and that must fail."""
    reasons = known.get(suite, {})
    complaints = [
        f"{suite}: {one.case} failed: {one.why.strip()[:600]}"
        for one in found
        if not one.passed and one.case not in reasons
    ]
    complaints += [
        f"{suite}: {one.case} passed; take it out of {FILE.name} ({reasons[one.case]})"
        for one in found
        if one.passed and one.case in reasons
    ]
    gone = set(reasons) - {one.case for one in found}
    complaints += [f"{suite}: {case} of {FILE.name} did not run" for case in sorted(gone)]
    failed = sum(not one.passed and one.case in reasons for one in found)
    passed = sum(one.passed and one.case not in reasons for one in found)
    return Verdict(passed, failed, tuple(complaints))
