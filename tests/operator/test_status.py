from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator import events
from octavo_operator.api.conditions import Reason
from octavo_operator.autoscale.controller import AutoscalingView
from octavo_operator.condition_set import condition_set
from octavo_operator.findings import Finding
from octavo_operator.rollout import SURGE_PATIENCE_SECONDS
from octavo_operator.status import (
    LOSS_PATIENCE_SECONDS,
    Observation,
    compute_status,
    invalid_status,
    settlement,
)
from tests.support.operator.builders import KEY, NOW, after, container, pod, resource, seen, spec

OFF = AutoscalingView(Reason.AUTOSCALING_DISABLED, "the spec has no autoscaling")
ON = AutoscalingView(Reason.AUTOSCALING_ACTIVE, "1 to 3 replicas", 7)


def status(
    pods: list[dict[str, Any]],
    *,
    before: dict[str, Any] | None = None,
    now: datetime = NOW,
    generation: int = 1,
    replicas: int = 1,
    desired: int | None = None,
    problem: Finding | None = None,
    service_problem: Finding | None = None,
    deadline: bool = False,
    view: AutoscalingView = OFF,
    **fields: Any,
) -> dict[str, Any]:
    live = resource(generation=generation) | ({"status": before} if before else {})
    fleet = seen(pods)
    return compute_status(
        Observation(
            key=KEY,
            generation=generation,
            spec=spec(replicas=replicas, **fields),
            fleet=fleet,
            desired_replicas=replicas if desired is None else desired,
            autoscaling=view,
            problem=problem or fleet.finding(),
            service_problem=service_problem,
            is_deadline_exceeded=deadline,
            settled=settlement(live),
        ),
        condition_set(live, now),
    )


def told(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in found["conditions"]}


def ready(count: int, revision: str = "new") -> list[dict[str, Any]]:
    return [pod(f"{revision}-{index}", revision=revision, ready=True) for index in range(count)]


def test_five_conditions_are_always_there_in_their_order() -> None:
    always = ["Ready", "ModelAvailable", "Progressing", "Autoscaling", "Degraded"]
    assert [each["type"] for each in status([])["conditions"]] == [*always, "Reconciling"]
    assert [each["type"] for each in status(ready(1))["conditions"]] == always


def test_before_any_pod_it_is_starting() -> None:
    assert told(status([])) == {
        "Ready": ("False", "Starting"),
        "ModelAvailable": ("Unknown", "Starting"),
        "Progressing": ("True", "Starting"),
        "Autoscaling": ("False", "Disabled"),
        "Degraded": ("False", "AsExpected"),
        "Reconciling": ("True", "Starting"),
    }


@pytest.mark.parametrize(
    ("answering", "replicas", "end"),
    [(0, 1, "answer: loading the model"), (0, 3, "answer: loading the model")]
    + [(1, 2, "answer; the others: loading the model")],
)
def test_what_does_not_answer_yet_is_told_and_others_only_where_some_do(
    answering: int, replicas: int, end: str
) -> None:
    starting = [pod(f"starting-{index}") for index in range(replicas - answering)]
    conditions = status(ready(answering) + starting, replicas=replicas)["conditions"]
    (message,) = [each["message"] for each in conditions if each["type"] == "Ready"]
    assert message.startswith(f"{answering} of {replicas} replicas of revision new answer")
    assert message.endswith(end)


def test_ready_when_the_pods_answer() -> None:
    found = status(ready(2), replicas=2)
    assert told(found) == {
        "Ready": ("True", "Serving"),
        "ModelAvailable": ("True", "ModelLoaded"),
        "Progressing": ("False", "Settled"),
        "Autoscaling": ("False", "Disabled"),
        "Degraded": ("False", "AsExpected"),
    }
    assert found["ready"] == "2/2"
    assert found["url"] == "http://llama.team.svc:8000/v1"
    assert found["selector"] == "octavo.dev/llmdeployment=llama"
    assert found["revision"] == "new"


def test_pods_of_the_old_revision_serve_but_do_not_make_it_ready() -> None:
    found = status([*ready(2, "old"), pod("new-1")], replicas=2)
    assert told(found)["Ready"] == ("False", "RollingOut")
    assert told(found)["Progressing"] == ("True", "RollingOut")
    assert (found["ready"], found["readyReplicas"], found["updatedReplicas"]) == ("2/2", 2, 0)


def test_scaling_up_is_not_ready_until_the_pods_answer() -> None:
    found = told(status([*ready(1), pod("new-2")], replicas=2))
    assert found["Ready"] == ("False", "ScalingUp")
    assert found["Degraded"] == ("False", "AsExpected")


def test_with_autoscaling_the_minimum_is_enough_to_be_ready() -> None:
    found = status(
        [*ready(1), pod("new-2")],
        desired=2,
        view=ON,
        autoscaling={"minReplicas": 1, "maxReplicas": 3},
    )
    assert told(found)["Ready"] == ("True", "Serving")
    assert told(found)["Progressing"] == ("True", "ScalingUp")
    assert told(found)["Autoscaling"] == ("True", "Active")
    assert found["queue"] == 7


def test_zero_replicas_are_not_ready_and_not_degraded() -> None:
    found = told(status([], replicas=0))
    assert found["Ready"] == ("False", "ScaledToZero")
    assert found["ModelAvailable"] == ("Unknown", "ScaledToZero")
    assert found["Degraded"] == ("False", "AsExpected")


@pytest.mark.parametrize(
    "reason",
    [
        Reason.NAME_CONFLICT,
        Reason.APPLY_FAILED,
        Reason.CONTESTED,
        Reason.ENDPOINTS_MISMATCH,
        Reason.CHILD_TERMINATING,
        Reason.PODS_FORBIDDEN,
    ],
)
@pytest.mark.parametrize("is_unled", [False, True])
def test_zero_replicas_hide_nothing_that_is_in_the_way(reason: Reason, is_unled: bool) -> None:
    """A Deployment that may not be scaled keeps its pods, and a foreign endpoint gets the requests."""
    finding = Finding(reason, "the sentence")
    unled = finding if is_unled else None
    found = status([], replicas=0, problem=finding, service_problem=unled)
    assert told(found)["Ready"] == ("False", reason)
    (message,) = [each["message"] for each in found["conditions"] if each["type"] == "Ready"]
    assert message == "spec.replicas is 0; the sentence"
    assert found["conditions"][-1]["type"] in ("Reconciling", "Stalled")


def test_a_model_that_does_not_exist_is_said_everywhere() -> None:
    message = '{"reason": "ModelNotFound", "message": "no such model"}'
    crashed = pod(statuses=[container(ended={"exitCode": 3, "message": message})])
    found = status([crashed])
    assert told(found)["ModelAvailable"] == ("False", "ModelNotFound")
    assert told(found)["Ready"] == ("False", "ModelNotFound")
    assert told(found)["Degraded"] == ("True", "ModelNotFound")
    assert "no such model" in found["conditions"][0]["message"]


def test_an_image_that_cannot_be_pulled_says_nothing_about_the_model() -> None:
    found = told(status([pod(statuses=[container(waiting=("ErrImagePull", "no"))])]))
    assert found["ModelAvailable"] == ("Unknown", "ImagePullFailed")
    assert found["Ready"] == ("False", "ImagePullFailed")
    assert found["Degraded"] == ("True", "ImagePullFailed")


def test_a_rollout_that_fails_leaves_the_old_pods_and_says_so() -> None:
    bad = pod("new-1", statuses=[container(waiting=("ErrImagePull", "no"))])
    found = status([*ready(2, "old"), bad], replicas=2)
    assert told(found)["Ready"] == ("False", "ImagePullFailed")
    assert told(found)["Progressing"] == ("True", "RollingOut")
    assert found["readyReplicas"] == 2


def test_a_rollout_that_was_given_up_is_no_longer_progressing() -> None:
    found = told(status([*ready(1, "old"), pod("new-1")], deadline=True))
    assert found["Progressing"] == ("False", "ProgressDeadlineExceeded")
    assert found["Degraded"] == ("True", "ProgressDeadlineExceeded")
    assert found["Ready"] == ("False", "ProgressDeadlineExceeded")  # what `kubectl get` shows


def test_a_pod_that_was_lost_moves_ready_at_once_and_degrades_when_it_stays_away() -> None:
    settled = status(ready(3), replicas=3)
    lost = status(ready(2), replicas=3, before=settled, now=after(10))
    assert told(lost)["Ready"] == ("False", "ReplicasUnavailable")
    assert told(lost)["Progressing"] == ("True", "ReplicasUnavailable")
    assert told(lost)["Degraded"] == ("False", "AsExpected")
    pods = [*ready(2), pod("new-9")]
    soon = status(pods, replicas=3, before=lost, now=after(9 + LOSS_PATIENCE_SECONDS))
    assert told(soon)["Degraded"] == ("False", "AsExpected")
    late = status(pods, replicas=3, before=soon, now=after(10 + LOSS_PATIENCE_SECONDS))
    assert told(late)["Degraded"] == ("True", "ReplicasUnavailable")
    back = status(ready(3), replicas=3, before=late, now=after(20 + LOSS_PATIENCE_SECONDS))
    assert told(back)["Degraded"] == ("False", "AsExpected")


NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
KILLED = {"exitCode": 137, "reason": "OOMKilled"}
UNPULLED = ("ErrImagePull", "i/o timeout")
QUOTA = Finding(Reason.QUOTA_EXCEEDED, "exceeded quota: pods=2", NOW, is_shortage=True)


@pytest.mark.parametrize(
    ("more", "problem", "reason"),
    [
        ([pod("new-9", unschedulable=NO_GPU)], None, "InsufficientGpu"),
        ([], QUOTA, "QuotaExceeded"),
        ([pod("llama-2", statuses=[container(ended_before=KILLED)])], None, "OutOfMemory"),
        ([pod("llama-2", statuses=[container(ended_before={"exitCode": 1})])], None, "Crashing"),
        ([pod("new-9", statuses=[container(waiting=UNPULLED)])], None, "ImagePullFailed"),
    ],
)
def test_a_lost_pod_whose_place_is_not_taken_yet_degrades_when_it_stays_so(
    more: list[dict[str, Any]], problem: Finding | None, reason: str
) -> None:
    """A pod that was deleted holds its GPU and its share of a quota until it has drained; a container that
    ended starts again, and a registry answers again."""
    settled = status(ready(2), replicas=2)
    pods = [*ready(1), *more]
    lost = status(pods, replicas=2, before=settled, problem=problem, now=after(10))
    assert told(lost)["Ready"] == ("False", reason)
    assert told(lost)["Degraded"] == ("False", "AsExpected")
    late = after(10 + LOSS_PATIENCE_SECONDS)
    stays = status(pods, replicas=2, before=lost, problem=problem, now=late)
    assert told(stays)["Degraded"] == ("True", reason)
    # Nobody was there before: what is missing is missing from the beginning.
    fresh = status(more, replicas=2, problem=problem, now=after(10))
    assert told(fresh)["Degraded"] == ("True", reason)


def test_what_a_former_object_left_is_no_alarm_while_the_new_one_begins() -> None:
    leaving = Finding(Reason.CHILD_TERMINATING, "Service llama is being deleted")
    fresh = status([], problem=leaving)
    assert told(fresh)["Degraded"] == ("False", "AsExpected")
    late = status([], problem=leaving, before=fresh, now=after(LOSS_PATIENCE_SECONDS))
    assert told(late)["Degraded"] == ("True", "ChildTerminating")
    settled = status(ready(1))
    lost = status(ready(1), problem=leaving, before=settled, now=after(1))
    assert told(lost)["Degraded"] == ("True", "ChildTerminating")


def test_more_replicas_of_a_model_that_serves_lack_room_for_a_while_before_that_is_an_alarm() -> (
    None
):
    """A node may be on its way. What was an alarm before stays one."""
    settled = status(ready(1))
    more = [*ready(1), pod("new-9", unschedulable=NO_GPU)]
    young = status(more, replicas=2, before=settled, now=after(1))
    assert told(young)["Ready"] == ("False", "InsufficientGpu")
    assert told(young)["Degraded"] == ("False", "AsExpected")
    late = status(more, replicas=2, before=young, now=after(SURGE_PATIENCE_SECONDS))
    assert told(late)["Degraded"] == ("True", "InsufficientGpu")
    again = status(more, replicas=2, before=late, now=after(1))
    assert told(again)["Degraded"] == ("True", "InsufficientGpu")


def test_more_replicas_than_were_settled_are_a_scale_up_and_no_loss() -> None:
    settled = status(ready(1))
    assert told(status(ready(1), replicas=3, before=settled))["Ready"] == ("False", "ScalingUp")


def test_pods_that_leave_are_a_scale_down() -> None:
    assert told(status(ready(3), replicas=1))["Progressing"] == ("True", "ScalingDown")


@pytest.mark.parametrize("problem", [Reason.NAME_CONFLICT, Reason.QUOTA_EXCEEDED])
def test_a_problem_of_the_children_is_degraded_even_while_pods_answer(problem: Reason) -> None:
    found = told(status(ready(1), problem=Finding(problem, "why")))
    assert found["Ready"] == ("True", "Serving")
    assert found["Degraded"] == ("True", problem.value)


@pytest.mark.parametrize("reason", [Reason.NAME_CONFLICT, Reason.APPLY_FAILED])
def test_pods_that_no_service_leads_to_are_not_ready_and_have_no_url(reason: Reason) -> None:
    problem = Finding(reason, "Service llama: why")
    found = status(ready(1), problem=problem, service_problem=problem)
    assert told(found)["Ready"] == ("False", reason.value)
    assert "Service llama: why" in found["conditions"][0]["message"]
    assert found["url"] == ""
    assert told(found)["ModelAvailable"] == ("True", "ModelLoaded")


def test_the_time_of_a_transition_changes_with_the_status_alone() -> None:
    first = status([])
    second = status([pod()], before=first, now=after(60))
    third = status(ready(1), before=second, now=after(120))
    times = [each["conditions"][0]["lastTransitionTime"] for each in (first, second, third)]
    assert times == ["2026-05-04T12:00:00Z", "2026-05-04T12:00:00Z", "2026-05-04T12:02:00Z"]


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_the_same_observation_gives_the_same_status(
    current: int, starting: int, old: int, replicas: int
) -> None:
    """Otherwise every write would cause another one."""
    pods = [*ready(current), *ready(old, "old"), *(pod(f"s-{index}") for index in range(starting))]
    first = status(pods, replicas=replicas)
    settled = status(pods, replicas=replicas, before=first, now=after(5))
    again = status(pods, replicas=replicas, before=settled, now=after(10))
    assert again == settled


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_ready_is_never_said_without_enough_current_pods(
    current: int, old: int, replicas: int
) -> None:
    found = status([*ready(current), *ready(old, "old")], replicas=replicas)
    is_ready = told(found)["Ready"][0] == "True"
    assert is_ready == (replicas > 0 and current >= replicas)


def test_every_condition_speaks_about_the_generation_that_was_read() -> None:
    found = status(ready(1), generation=7)
    assert {each["observedGeneration"] for each in found["conditions"]} == {7}
    assert found["observedGeneration"] == 7


def test_the_one_word_of_kubectl_get_tells_what_is_wrong_though_it_serves() -> None:
    """What nothing suffers from yet, such as a cache that does not grow or a policy that is contested."""
    assert status(ready(1))["summary"] == "Serving"
    contested = Finding(Reason.CONTESTED, "NetworkPolicy llama: repaired again and again")
    found = status(ready(1), problem=contested)
    assert told(found)["Ready"] == ("True", "Serving")
    assert found["summary"] == "Contested"
    assert status([pod()])["summary"] == "Starting"
    missing = status(ready(1, "old"), problem=contested)
    assert missing["summary"] == told(missing)["Ready"][1]


def test_an_unreadable_spec_keeps_the_counts_of_what_still_runs() -> None:
    before = status(ready(1))
    live = resource(generation=2) | {"status": before}
    found = invalid_status(live, condition_set(live, NOW), Reason.INVALID_SPEC, "spec.x: no")
    assert found["readyReplicas"] == 1
    assert found["summary"] == "InvalidSpec"
    assert found["observedGeneration"] == 2
    assert told(found)["Ready"] == ("False", "InvalidSpec")
    assert told(found)["Degraded"] == ("True", "InvalidSpec")


def news_of(pods: list[dict[str, Any]], before: dict[str, Any] | None) -> list[tuple[str, bool]]:
    live = resource() | ({"status": before} if before else {})
    conditions = condition_set(live, NOW)
    fleet = seen(pods)
    compute_status(
        Observation(KEY, 1, spec(), fleet, 1, OFF, fleet.finding(), settled=settlement(live)),
        conditions,
    )
    return [(each.reason.value, each.is_warning) for each in events.news(conditions.transitions)]


def test_events_tell_each_cause_once_and_only_when_it_changes() -> None:
    broken = [pod(statuses=[container(waiting=("ErrImagePull", "no"))])]
    assert news_of([], None) == [("Starting", False)]
    starting = status([])
    assert news_of([], starting) == []
    assert news_of(broken, starting) == [("ImagePullFailed", True)]
    assert news_of(broken, status(broken)) == []
