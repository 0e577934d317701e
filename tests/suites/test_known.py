"""Results of outside suites against what is known of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from suites.environment import HERE, LOCK, SUITES
from suites.known import compare, read_known
from suites.report import Result, from_go, from_junit

KNOWN = {"a": {"slow": "the model is small"}}


@pytest.mark.parametrize(
    ("found", "complaints"),
    [
        ([Result("quick", True), Result("slow", False, "x")], []),
        ([Result("quick", False, "boom"), Result("slow", False, "x")], ["quick failed: boom"]),
        ([Result("slow", True)], ["slow passed; take it out"]),
        ([Result("quick", True)], ["slow of known_failures.toml did not run"]),
    ],
)
def test_only_what_is_known_may_fail_and_it_must(
    found: list[Result], complaints: list[str]
) -> None:
    verdict = compare("a", found, KNOWN)
    assert len(verdict.complaints) == len(complaints)
    for told, expected in zip(verdict.complaints, complaints, strict=True):
        assert expected in told


def test_cases_of_junit() -> None:
    report = (
        '<testsuites><testsuite><testcase name="good"/><testcase name="out"><skipped/></testcase>'
        '<testcase name="bad"><failure message="no">trace</failure></testcase>'
        '<testcase name="broken"><error>set-up</error></testcase></testsuite></testsuites>'
    )
    assert from_junit(report) == [
        Result("good", True),
        Result("bad", False, "no"),
        Result("broken", False, "set-up"),
    ]


def test_cases_of_go() -> None:
    lines = (
        '{"Action":"output","Package":"p","Test":"TestB","Output":"42, expected 43"}\n'
        '{"Action":"fail","Package":"p","Test":"TestB"}\n'
        '{"Action":"pass","Package":"p","Test":"TestA"}\n'
        '{"Action":"fail","Package":"p"}\n'
    )
    assert from_go(lines) == [Result("TestB", False, "42, expected 43"), Result("TestA", True)]


def test_the_list_names_suites_that_there_are() -> None:
    assert set(read_known()) <= set(SUITES)
    assert all(reason for cases in read_known().values() for reason in cases.values())


def test_every_file_of_cases_belongs_to_a_suite() -> None:
    files = {
        str(path.relative_to(HERE))
        for pattern in ("cases/test_*.py", "js/*.test.mjs", "go/*_test.go")
        for path in HERE.glob(pattern)
    }
    assert files == {suite.file for suite in SUITES.values()}


def test_the_lock_holds_what_is_asked_for_and_names_no_index() -> None:
    asked = re.findall(r"^([a-z0-9-]+)", (HERE / "requirements.in").read_text("utf-8"), re.M)
    lock = LOCK.read_text("utf-8")
    assert not [name for name in asked if f"\n{name}==" not in f"\n{lock}"]
    package_lock = Path(HERE / "js/package-lock.json").read_text("utf-8")
    assert "://" not in lock
    assert '"resolved"' not in package_lock
