"""Commits of a model whose URI names none."""

from __future__ import annotations

import pytest

from octavo_operator.api.v1alpha1 import ModelSource
from octavo_operator.commits import MOST_QUESTIONS, Commits, difference
from octavo_operator.manifest import POD, Manifest
from octavo_operator.startups import StartupReport
from tests.support.operator.builders import KEY, container, pod, seen
from tests.support.operator.world import running

MODEL = ModelSource(uri="hf://org/name")
ONE, OTHER = "1" * 40, "2" * 40


def serving(name: str, run: str = "1") -> Manifest:
    made = pod(name, ready=True, statuses=[container(running=True) | {"containerID": run}])
    made["status"]["podIPs"] = [{"ip": "10.0.0.1"}]
    return made


def told(commit: str = "") -> StartupReport:
    return StartupReport(started=True, phases=(), commit=commit)


def answer(commits: Commits, **by_pod: StartupReport | None) -> bool:
    """Whether there is news after the pods were asked."""
    return bool(
        commits.hear(
            [(each, by_pod.get(each.pod.replace("-", "_"))) for each in commits.questions(9)]
        )
    )


@pytest.mark.parametrize(
    ("uri", "is_asked"),
    [
        ("hf://org/name", True),
        ("hf://org/name@main", True),
        (f"hf://org/name@{ONE}", False),
        ("s3://bucket/name", True),
        ("pvc://claim/name", True),
        ("builtin://demo", False),
    ],
)
def test_who_serves_what_may_move_is_asked(uri: str, is_asked: bool) -> None:
    commits = Commits()
    commits.follow(KEY, ModelSource(uri=uri), seen([serving("a-1")]))
    assert bool(commits.questions(9)) is is_asked


def test_each_run_is_asked_until_it_told_and_another_run_anew() -> None:
    commits, fleet = Commits(), seen([serving("a-1"), serving("a-2")])
    assert commits.follow(KEY, MODEL, fleet) == {"a-1": None, "a-2": None}
    assert answer(commits, a_1=told(ONE))
    assert commits.follow(KEY, MODEL, fleet) == {"a-1": ONE, "a-2": None}
    assert answer(commits, a_2=told())
    assert commits.questions(9) == []
    again = seen([serving("a-1", run="2"), serving("a-2")])
    assert commits.follow(KEY, MODEL, again) == {"a-1": None, "a-2": ""}
    for _ in range(MOST_QUESTIONS - 1):
        assert not answer(commits)
    assert answer(commits), "who never answers is not waited for"
    assert commits.questions(9) == []


def test_the_commits_are_named_with_their_pods_until_they_are_one() -> None:
    found = difference(MODEL, {"a-1": ONE, "a-2": OTHER, "a-3": ONE, "a-4": ""}, "")
    assert found is not None
    assert f"{ONE} (a-1, a-3); {OTHER} (a-2)" in found.message
    assert "hf://org/name@COMMIT" in found.message
    assert difference(MODEL, {"a-1": ONE, "a-2": ONE}, found.message) is None
    after_a_restart = difference(MODEL, {"a-1": ONE, "a-2": None}, found.message)
    assert after_a_restart == found
    assert difference(MODEL, {"a-1": ONE, "a-2": None}, "") is None
    assert difference(MODEL, None, found.message) is None


def test_contents_of_a_bucket_that_was_written_over_are_told_likewise() -> None:
    model = ModelSource(uri="s3://bucket/name")
    commits, fleet = Commits(), seen([serving("a-1"), serving("a-2")])
    commits.follow(KEY, model, fleet)
    contents = (StartupReport(started=True, phases=(), content=each * 16) for each in "ab")
    assert answer(commits, a_1=next(contents), a_2=next(contents))
    found = difference(model, commits.follow(KEY, model, fleet), "")
    assert found is not None
    assert f"{'a' * 16} (a-1); {'b' * 16} (a-2)" in found.message
    assert "s3://bucket/name, which was written over" in found.message


@pytest.mark.parametrize("words", ["main", "<b>", ONE + "0", "A" * 40])
def test_what_is_no_commit_is_no_answer(words: str) -> None:
    with pytest.raises(ValueError, match="commit"):
        told(words)


def test_replicas_that_differ_are_a_matter_for_a_person_and_go_on_serving() -> None:
    world = running(model={"uri": MODEL.uri}, replicas=2)
    for index in range(2):
        live = world.kube.live(POD, KEY.namespace, f"llama-{index}")
        run = container(running=True) | {"containerID": f"run-{index}"}
        live["status"] |= {"podIPs": [{"ip": f"10.0.0.{index + 1}"}], "containerStatuses": [run]}
    world.reconcile()
    commits = world.reconciler._commits
    world.deployment["status"] = {"replicas": 3, "updatedReplicas": 1}  # `kubectl rollout restart`
    assert answer(commits, llama_0=told(ONE), llama_1=told(OTHER))
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected"), "it is how all come to be alike"
    world.deployment["status"] = {"replicas": 2, "updatedReplicas": 2}
    world.reconcile()
    assert world.condition("Degraded") == ("True", "ModelCommitsDiffer")
    assert world.condition("Ready") == ("True", "Serving")
    world.deployment["status"] = {"replicas": 3, "updatedReplicas": 1}
    world.reconcile()
    assert world.condition("Degraded") == ("True", "ModelCommitsDiffer"), "what was told stays"
    world.deployment["status"] = {"replicas": 2, "updatedReplicas": 2}
    world.reconcile()
    world.restart_operator()
    world.kube.requests.clear()
    world.reconcile()
    assert world.kube.writes == []
