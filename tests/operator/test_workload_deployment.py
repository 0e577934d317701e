from __future__ import annotations

from typing import Any

import pytest

from octavo_operator.api.conditions import Reason
from octavo_operator.pods import views
from octavo_operator.render import Replacement
from octavo_operator.workload.deployment import Deployment
from tests.support.operator.builders import KEY, NOW, context, pod, stamp

DEPLOYMENT = Deployment()


def rendered(**fields: Any) -> dict[str, Any]:
    (child,) = DEPLOYMENT.children(context(**fields))
    return child.manifest


def test_every_pod_is_a_replica() -> None:
    pods = views([pod("b"), pod("a", ready=True)], "nvidia.com/gpu", NOW)
    replicas = DEPLOYMENT.replicas(KEY.name, pods)
    assert [(each.name, each.size, each.is_ready) for each in replicas] == [
        ("a", 1, True),
        ("b", 1, False),
    ]


def test_a_stray_pod_with_our_label_does_not_count() -> None:
    ours, by_hand, of_another = pod("ours"), pod("by-hand"), pod("of-another")
    by_hand["metadata"]["ownerReferences"] = []
    # A Deployment `llama-eval` whose pods were given the label of `llama`.
    of_another["metadata"]["ownerReferences"][0]["name"] = "llama-eval-new"
    adopted = pod("adopted")  # by the ReplicaSet, which knows its own by their labels alone
    adopted["spec"]["containers"] = [{"name": "nginx", "image": "nginx"}]
    pods = views([ours, by_hand, of_another, adopted], "nvidia.com/gpu", NOW)
    assert [each.name for each in DEPLOYMENT.replicas(KEY.name, pods)] == ["ours"]


def test_replicas_are_always_stated_and_read_back() -> None:
    for count in (0, 3):
        assert rendered(replicas=count)["spec"]["replicas"] == count
        assert DEPLOYMENT.wanted(rendered(replicas=count)) == count
    assert DEPLOYMENT.wanted({"spec": {}}) is None


@pytest.mark.parametrize(
    ("replacement", "strategy"),
    [
        (Replacement("Recreate"), {"type": "Recreate"}),
        (
            Replacement("RollingUpdate", 0, 1),
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        ),
    ],
)
def test_the_replacement_becomes_the_strategy_and_is_read_back(
    replacement: Replacement, strategy: dict[str, Any]
) -> None:
    manifest = rendered(replacement=replacement)
    assert manifest["spec"]["strategy"] == strategy
    assert DEPLOYMENT.replacement(manifest) == replacement


def test_a_strategy_that_is_not_ours_is_no_replacement() -> None:
    shares = {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert DEPLOYMENT.replacement({"spec": {"strategy": shares}}) is None


def test_the_revision_is_what_its_pods_carry() -> None:
    made = context(engine={"seed": 1})
    labels = DEPLOYMENT.children(made)[0].manifest["spec"]["template"]["metadata"]["labels"]
    assert labels["octavo.dev/revision"] == DEPLOYMENT.revision(made.pods)


def live(type_: str, status: str, reason: str = "", message: str = "") -> dict[str, Any]:
    condition = {"type": type_, "status": status, "reason": reason, "message": message}
    condition["lastTransitionTime"] = stamp(NOW)
    metadata = {"name": KEY.name, "namespace": KEY.namespace}
    return {"metadata": metadata, "spec": {}, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "a" is forbidden: exceeded quota: q', Reason.QUOTA_EXCEEDED),
        ('forbidden: exceeded hierarchical quota in namespace "a"', Reason.QUOTA_EXCEEDED),
        ('pods "a" is forbidden: violates PodSecurity "restricted"', Reason.PODS_FORBIDDEN),
    ],
)
def test_pods_that_may_not_be_created_are_explained(message: str, reason: Reason) -> None:
    found = DEPLOYMENT.finding(live("ReplicaFailure", "True", "FailedCreate", message), ())
    assert found is not None
    assert found.reason is reason
    assert found.message.startswith(message)
    if reason is Reason.QUOTA_EXCEEDED:  # and is raised: the controller has its own patience
        assert (
            "within 17 minutes; `kubectl -n team rollout restart deployment/llama`" in found.message
        )
    assert DEPLOYMENT.finding(live("ReplicaFailure", "False"), ()) is None
    assert DEPLOYMENT.finding({"metadata": {}, "spec": {}}, ()) is None


def check_forbidden(message: str, fields: list[str]) -> None:
    """Pods that are refused with it are told so, with the fields to set."""
    found = DEPLOYMENT.finding(live("ReplicaFailure", "True", "FailedCreate", message), ())
    assert found is not None
    hint = f"; set {', '.join(fields)}" if fields else ""
    assert (found.reason, found.message) == (Reason.PODS_FORBIDDEN, message + hint)


@pytest.mark.parametrize(
    ("wanted", "fields"),
    [
        ("limits.cpu for: octavo", ["spec.resources.cpuLimit"]),
        ("limits.cpu", ["spec.resources.cpuLimit"]),
        (
            "limits.cpu for: fetch,octavo; limits.memory for: fetch-draft",
            [
                "spec.resources.cpuLimit",
                "spec.resources.download.cpu",
                "spec.resources.download.memory",
            ],
        ),
        (
            "limits.ephemeral-storage,requests.ephemeral-storage",
            ["spec.resources.ephemeralStorage"],
        ),
        ("requests.example.com/dongles for: octavo", []),
    ],
)
def test_limits_that_a_quota_wants_are_told_by_their_fields(wanted: str, fields: list[str]) -> None:
    message = f'pods "a" is forbidden: failed quota: q: must specify {wanted}'
    check_forbidden(message, fields)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (
            (
                'Pod "a" is invalid: spec.containers[0].resources.requests: Invalid value: "1Gi": must be '
                "less than or equal to memory limit of 256Mi"
            ),
            ["spec.resources.memory"],
        ),
        (
            (
                'Pod "a" is invalid: [spec.initContainers[0].resources.requests: Invalid value: "100m": must '
                "be less than or equal to cpu limit of 50m, spec.containers[0].resources.requests: Invalid "
                'value: "500m": must be less than or equal to cpu limit of 50m]'
            ),
            ["spec.resources.download.cpu", "spec.resources.cpu"],
        ),
        (
            (
                'pods "a" is forbidden: [minimum cpu usage per Container is 1, but request is 500m, maximum '
                "memory usage per Container is 512Mi, but limit is 1Gi]"
            ),
            ["spec.resources.cpu", "spec.resources.memory"],
        ),
        (
            'pods "a" is forbidden: maximum cpu usage per Pod is 2, but limit is 3',
            ["spec.resources.cpuLimit"],
        ),
        (
            'pods "a" is forbidden: maximum memory usage per Pod is 512Mi.  No limit is specified',
            ["spec.resources.memory"],
        ),
        ('pods "a" is forbidden: no PriorityClass with name b was found', []),
    ],
)
def test_what_a_limit_range_refuses_is_told_by_its_field(message: str, fields: list[str]) -> None:
    check_forbidden(message, fields)


SERVES_4_OF_8 = {"cpu": "4", "cpuLimit": "8", "memory": "4Gi"}


@pytest.mark.parametrize(
    ("resources", "said", "fields"),
    [
        (
            {"memory": "4Gi"},
            "minimum memory usage per Container is 512Mi, but request is 256Mi",
            ["download.memory"],
        ),
        (
            {"memory": "4Gi", "download": {"memory": "16Gi"}},
            "maximum memory usage per Container is 8Gi, but limit is 16Gi",
            ["download.memory"],
        ),
        (
            {"memory": "4Gi", "download": {"memory": "1Gi", "cpu": "1"}},
            "maximum cpu usage per Pod is 4.  No limit is specified",
            ["cpuLimit"],
        ),
        (
            SERVES_4_OF_8,
            "cpu max limit to request ratio per Container is 4, but provided ratio is 10.000000",
            ["download.cpu"],
        ),
        (
            {**SERVES_4_OF_8, "download": {"cpu": "1"}},
            "cpu max limit to request ratio per Container is 1, but provided ratio is 2.000000",
            ["cpu", "cpuLimit"],
        ),
        (
            {"memory": "4Gi"},
            "cpu max limit to request ratio per Container is 1, but no limit is specified or limit is 0",
            ["download.cpu", "cpu", "cpuLimit"],
        ),
        (
            {"gpu": 4},
            "maximum nvidia.com/gpu usage per Container is 2, but limit is 4",
            ["gpu"],
        ),
    ],
)
def test_whose_value_a_limit_range_refuses_is_told_by_the_template(
    resources: dict[str, Any], said: str, fields: list[str]
) -> None:
    message = f'pods "a" is forbidden: {said}'
    made = rendered(model={"uri": "hf://o/n"}, resources=resources)
    refused = made | {"status": live("ReplicaFailure", "True", "FailedCreate", message)["status"]}
    found = DEPLOYMENT.finding(refused, ())
    assert found is not None
    named = ", ".join(f"spec.resources.{each}" for each in fields)
    assert found.message == f"{message}; set {named}"


@pytest.mark.parametrize(
    ("status", "is_replacing"),
    [
        ({}, False),
        ({"replicas": 2, "updatedReplicas": 2}, False),
        ({"replicas": 3, "updatedReplicas": 1}, True),
        ({"replicas": 2}, True),
        # Of the generation before: a rollout does not end by an edit, nor begin by one.
        ({"replicas": 3, "updatedReplicas": 1, "observedGeneration": 1}, True),
        ({"replicas": 2, "updatedReplicas": 2, "observedGeneration": 1}, False),
    ],
)
def test_pods_of_a_former_template_are_being_replaced(
    status: dict[str, int], is_replacing: bool
) -> None:
    metadata = {"generation": 2}
    found = DEPLOYMENT.is_replacing({"metadata": metadata, "spec": {}, "status": status})
    assert found is is_replacing


def test_a_rollout_that_was_given_up_is_seen() -> None:
    given_up = live("Progressing", "False", "ProgressDeadlineExceeded")
    assert DEPLOYMENT.given_up_since(given_up) == NOW
    assert DEPLOYMENT.given_up_since(live("Progressing", "True", "ReplicaSetUpdated")) is None


@pytest.mark.parametrize(("observed", "is_seen"), [(3, False), (4, True)])
def test_what_the_controller_said_of_the_former_spec_is_no_verdict_on_this_one(
    observed: int, is_seen: bool
) -> None:
    given_up = live("Progressing", "False", "ProgressDeadlineExceeded")
    refused = live("ReplicaFailure", "True", "FailedCreate", "exceeded quota")
    for each in (given_up, refused):
        each["metadata"]["generation"] = 4
        each["status"]["observedGeneration"] = observed
    assert (DEPLOYMENT.given_up_since(given_up) is not None) is is_seen
    assert (DEPLOYMENT.finding(refused, ()) is not None) is is_seen
