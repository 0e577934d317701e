"""What starting pods tell, kept and put into words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.manifest import Manifest, ObjectKey
from octavo_operator.replicas import Fleet
from octavo_operator.startups import (
    PODS_OF_ONE_OBJECT,
    Phase,
    StartupReport,
    Startups,
    progress_text,
)
from tests.support.operator.builders import KEY, container, pod, seen
from tests.support.operator.starting_pod import GIB, report

OTHER = ObjectKey("team", "other")


def told(*args: Any, **fields: Any) -> StartupReport:
    return StartupReport.model_validate(report(*args, **fields))


def starting(name: str = "llama-1", run: str = "1", *, ready: bool = False) -> Manifest:
    made = pod(name, ready=ready, statuses=[container(running=True) | {"containerID": run}])
    made["status"]["podIPs"] = [{"ip": "10.0.0.1"}]
    return made


def texts(startups: Startups, fleet: Fleet) -> list[str]:
    return startups.follow(KEY, fleet).progress_texts()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (told("load", 4.0, 3 * GIB, 15 * GIB), "loading weights: 3.0 of 15.0 GiB, 768 MiB/s"),
        (told("load", 2.0, 300 * GIB, 2048 * GIB), "loading weights: 0.3 of 2.0 TiB, 150 GiB/s"),
        (
            told("resolve", 8.0, 40_000, 900_000),
            "downloading the model: 39.1 of 879 KiB, 4.9 KiB/s",
        ),
        (told("resolve", 1.0, 0, 700), "downloading the model: 0 of 700 B, 0 B/s"),
        (told("resolve", 1.0), ""),
        (told("import", 1.0), ""),
        (told("capture", 3.0, ended=("load", "profile")), "capturing CUDA graphs"),
        (told("<b>a phase of its own</b>", 3.0), ""),
        (StartupReport(started=True, phases=()), "started, not ready"),
        (StartupReport(started=False, phases=()), ""),
    ],
)
def test_a_phase_is_told_in_words_of_ours(answer: StartupReport, text: str) -> None:
    assert progress_text(None, answer) == text


def test_the_download_of_a_draft_is_told_as_its_own() -> None:
    answer = told("resolve", 1.0, 0, 700)
    text = progress_text(None, answer, "fetch-draft")
    assert text == "downloading the draft model: 0 of 700 B, 0 B/s"


def test_the_speed_is_that_since_the_last_answer_and_standing_still_has_none() -> None:
    before = Phase(name="load", seconds=10.0, done=False, bytes=GIB, bytes_total=4 * GIB)
    faster = progress_text(before, told("load", 12.0, 3 * GIB, 4 * GIB))
    assert faster == "loading weights: 3.0 of 4.0 GiB, 1.0 GiB/s"
    still = progress_text(before, told("load", 20.0, GIB, 4 * GIB))
    assert still == "loading weights: 1.0 of 4.0 GiB, 0 B/s"
    other = progress_text(before, told("resolve", 20.0, 2 * GIB, 4 * GIB))
    assert other.endswith("102 MiB/s")


@given(st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1), st.floats(0, 1e9))
def test_no_number_makes_more_than_a_line(done: int, total: int, seconds: float) -> None:
    phase = Phase(name="load", seconds=seconds, done=False, bytes=done, bytes_total=total)
    text = progress_text(None, StartupReport(started=False, phases=(phase,)))
    assert text.startswith("loading weights: ")
    assert len(text) < 80


def test_what_was_told_shows_until_its_run_is_over() -> None:
    startups = Startups()
    assert texts(startups, seen([starting()])) == []
    (question,) = startups.questions(9)
    assert (question.key, question.pod, question.run.address) == (KEY, "llama-1", "10.0.0.1")
    assert startups.hear([(question, told("load", 4.0, GIB, 4 * GIB))]) == {KEY}
    line = ["loading weights: 1.0 of 4.0 GiB, 256 MiB/s"]
    assert texts(startups, seen([starting()])) == line
    assert texts(startups, seen([starting()])) == line, "who tells nothing new has not unsaid it"
    assert texts(startups, seen([starting(run="2")])) == []
    late = told("load", 5.0, 2 * GIB, 4 * GIB)
    assert not startups.hear([(question, late)]), "of a run that is over"
    assert texts(startups, seen([starting(ready=True)])) == []
    assert startups.questions(9) == []


def test_an_answer_that_says_nothing_new_is_no_news() -> None:
    startups = Startups()
    startups.follow(KEY, seen([starting()]))
    (question,) = startups.questions(9)
    assert not startups.hear([(question, told("import", 1.0))])
    assert startups.hear([(question, told("load", 4.0, GIB, 4 * GIB))])
    still = told("load", 8.0, GIB, 4 * GIB)
    assert startups.hear([(question, still)]), "it stands still now"
    assert not startups.hear([(question, told("load", 12.0, GIB, 4 * GIB))])


def test_what_a_pod_told_holds_no_longer_than_it_answers() -> None:
    startups = Startups()
    startups.follow(KEY, seen([starting()]))
    (question,) = startups.questions(9)
    startups.hear([(question, told("load", 4.0, GIB, 4 * GIB))])
    assert not startups.hear([(question, None)]), "one answer may be lost"
    assert len(texts(startups, seen([starting()]))) == 1
    assert startups.hear([(question, None)]) == {KEY}
    assert texts(startups, seen([starting()])) == []
    assert not startups.hear([(question, None)])
    startups.hear([(question, told("load", 44.0, 2 * GIB, 4 * GIB))])
    assert texts(startups, seen([starting()])) == ["loading weights: 2.0 of 4.0 GiB, 25.6 MiB/s"]


def test_every_pod_of_many_is_asked_and_few_are_told_of() -> None:
    startups, pods = Startups(), [starting(f"llama-{index}", str(index)) for index in range(8)]
    asked: list[str] = []
    for _ in range(8):
        startups.follow(KEY, seen(pods))
        questions = startups.questions(64)
        asked += [each.pod for each in questions]
        # Each is at another place, and the last one hangs.
        reports = [
            None if each.pod == "llama-7" else told("load", 1.0, int(each.pod[-1]) * GIB, 9 * GIB)
            for each in questions
        ]
        startups.hear(zip(questions, reports, strict=True))
        shown = texts(startups, seen(pods))
        assert len(shown) == PODS_OF_ONE_OBJECT
        told_now = {f"{each.pod[-1]}.0 of" for each in questions if each.pod != "llama-7"}
        assert all(any(part in text for text in shown) for part in told_now)
    assert {asked.count(f"llama-{index}") for index in range(8)} == {3}


def test_few_pods_are_asked_and_each_in_its_turn() -> None:
    startups = Startups()
    startups.follow(KEY, seen([starting(f"llama-{index}", str(index)) for index in range(9)]))
    startups.follow(OTHER, seen([starting("other-1")]))
    passes = [[each.pod for each in startups.questions(2)] for _ in range(4)]
    assert passes[0] == ["llama-0", "llama-1"]
    assert passes[1] == ["other-1", "llama-2"], "the object that was not asked yet is first"
    assert passes[2:] == [["other-1", "llama-3"], ["other-1", "llama-4"]]
    assert len([each for each in startups.questions(9) if each.key == KEY]) == PODS_OF_ONE_OBJECT
    startups.forget(KEY)
    assert [each.key for each in startups.questions(9)] == [OTHER]


def test_pods_without_an_address_of_an_old_revision_or_that_run_nothing_are_not_asked() -> None:
    startups = Startups()
    old, waiting = starting("old"), starting("waiting")
    old["metadata"]["labels"]["octavo.dev/revision"] = "old"
    waiting["status"]["containerStatuses"] = [container(waiting=("ContainerCreating", ""))]
    nowhere = pod("nowhere", statuses=[container(running=True)])
    startups.follow(KEY, seen([old, waiting, nowhere]))
    assert startups.questions(9) == []
