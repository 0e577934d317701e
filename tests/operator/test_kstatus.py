"""How far an object is, as the tools that wait for it read its status: kstatus and Argo CD's script."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator import events
from octavo_operator.api.conditions import ConditionStatus, ConditionType, Reason
from octavo_operator.autoscale.controller import AutoscalingView
from octavo_operator.condition_set import condition_set
from octavo_operator.findings import Finding
from octavo_operator.kstatus import abnormal
from octavo_operator.manifest import Manifest
from octavo_operator.status import (
    Observation,
    compute_status,
    invalid_status,
    settlement,
)
from tests.support.operator.builders import KEY, NOW, container, pod, resource, seen, spec
from tests.support.requirements import Requirement, needs_module

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "gitops.md"
NEW = [pod("new-1", ready=True)]
OLD = [pod("old-1", revision="old", ready=True)]
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def ended(reason: str) -> list[Manifest]:
    message = f'{{"reason": "{reason}", "message": "why"}}'
    return [pod(statuses=[container(ended={"exitCode": 3, "message": message})])]


def live(
    pods: list[Manifest],
    *,
    replicas: int = 1,
    deadline: bool = False,
    problem: Finding | None = None,
    generation: int = 1,
    **fields: Any,
) -> Manifest:
    """An object with the status of these pods."""
    found = resource(generation=generation, replicas=replicas, **fields)
    fleet = seen(pods)
    observation = Observation(
        key=KEY,
        generation=generation,
        spec=spec(replicas=replicas, **fields),
        fleet=fleet,
        desired_replicas=replicas,
        autoscaling=AutoscalingView(Reason.AUTOSCALING_DISABLED, ""),
        problem=problem or fleet.finding(),
        is_deadline_exceeded=deadline,
        settled=settlement(found),
    )
    return {**found, "status": compute_status(observation, condition_set(found, NOW))}


def wrong_spec() -> Manifest:
    found = resource()
    marked = condition_set(found, NOW)
    return {**found, "status": invalid_status(found, marked, Reason.INVALID_SPEC, "why")}


def kstatus(found: Manifest) -> str:
    """As sigs.k8s.io/cli-utils/pkg/kstatus reads an object of a kind that it does not know."""
    status = found.get("status", {})
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return "InProgress"
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


WAITED_FOR = [
    (live([]), "InProgress", "Progressing"),
    (live(NEW), "Current", "Healthy"),
    (live(OLD), "InProgress", "Progressing"),
    (live([*NEW, pod("new-2")], replicas=2), "InProgress", "Progressing"),
    (live([*NEW, *OLD]), "Current", "Healthy"),
    (live([], replicas=0), "InProgress", "Healthy"),
    (live(NEW, replicas=0), "InProgress", "Progressing"),
    (live([pod(unschedulable=NO_GPU)]), "InProgress", "Progressing"),
    (live([pod(unschedulable=NO_GPU)], deadline=True), "Failed", "Degraded"),
    (live([*OLD, pod("new-1")], deadline=True), "Failed", "Degraded"),
    (live(ended("DownloadFailed")), "InProgress", "Progressing"),
    (live(ended("ModelNotFound")), "Failed", "Degraded"),
    (live([*OLD, *ended("ModelUnsupported")]), "Failed", "Degraded"),
    (live([], problem=Finding(Reason.NAME_CONFLICT, "why")), "Failed", "Degraded"),
    (live([], problem=Finding(Reason.APPLY_FAILED, "why")), "InProgress", "Progressing"),
    (live(NEW, problem=Finding(Reason.APPLY_FAILED, "why")), "Current", "Degraded"),
    (wrong_spec(), "Failed", "Degraded"),
    (
        {**live(NEW), "metadata": {**resource(generation=2)["metadata"]}},
        "InProgress",
        "Progressing",
    ),
    (resource(), "InProgress", "Progressing"),
]


@pytest.mark.parametrize(("found", "answer", "_argo"), WAITED_FOR)
def test_who_waits_by_kstatus_waits_ends_or_gives_up_as_it_should(
    found: Manifest, answer: str, _argo: str
) -> None:
    assert kstatus(found) == answer


def argo_script() -> str:
    (block,) = [
        text.split("```", 1)[0]
        for text in PAGE.read_text("utf-8").split("```yaml\n")[1:]
        if "resource.customizations" in text
    ]
    data = yaml.safe_load(block)["data"]
    script: str = data["resource.customizations.health.octavo.dev_LLMDeployment"]
    return script


@pytest.mark.parametrize(("found", "_kstatus", "answer"), WAITED_FOR)
def test_the_script_for_argo_cd_says_what_its_page_says(
    found: Manifest, _kstatus: str, answer: str
) -> None:
    needs_module(Requirement.LUPA)
    lua = importlib.import_module(
        "lupa.lua51"
    ).LuaRuntime()  # the language of Argo CD's interpreter
    health = lua.eval(f"function(obj) {argo_script()} end")
    said = health(lua.table_from(found, recursive=True))
    assert said["status"] == answer
    assert said["message"]


STATUSES = st.sampled_from([ConditionStatus.TRUE, ConditionStatus.FALSE])


@given(
    ready=STATUSES,
    progressing=STATUSES,
    degraded=STATUSES,
    reasons=st.lists(st.sampled_from(list(Reason)), min_size=3, max_size=3),
)
def test_what_is_not_ready_is_on_its_way_or_stalled_unless_nothing_is_wanted(
    ready: ConditionStatus,
    progressing: ConditionStatus,
    degraded: ConditionStatus,
    reasons: list[Reason],
) -> None:
    types = (ConditionType.READY, ConditionType.PROGRESSING, ConditionType.DEGRADED)
    states = zip(types, (ready, progressing, degraded), reasons, strict=True)
    found = abnormal(
        {
            type_: {"status": status.value, "reason": reason.value, "message": "m"}
            for type_, status, reason in states
        }
    )
    if ready is ConditionStatus.TRUE:
        assert found is None
    elif found is None:
        assert reasons[0] is Reason.SCALED_TO_ZERO
    elif found.type is ConditionType.STALLED:
        assert degraded is ConditionStatus.TRUE
    else:
        assert found.type is ConditionType.RECONCILING


def test_they_are_no_events() -> None:
    marked = condition_set(resource(), NOW)
    invalid_status(resource(), marked, Reason.INVALID_SPEC, "why")
    types = {each.type for each in events.news(marked.transitions)}
    assert ConditionType.DEGRADED in types
    assert ConditionType.STALLED not in types
