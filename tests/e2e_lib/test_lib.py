"""What the demo and the e2e tests rely on, without a cluster: reading, waiting, and telling why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from e2e.demo.show import same_but_for_age
from e2e.lib import explain as explaining
from e2e.lib.clients import client_pod
from e2e.lib.environment import OwnCluster, parse_references
from e2e.lib.install import Images, split_reference, values
from e2e.lib.kubectl import Kubectl, Object
from e2e.lib.llmd import ABSENT, condition, is_ready
from e2e.lib.wait import WaitTimeoutError, wait_for
from host.errors import CommandError, readable
from host.process import run


def resource(generation: int, observed: int, ready: str) -> Object:
    row = {"type": "Ready", "status": ready, "reason": "Serving", "observedGeneration": observed}
    return {"metadata": {"generation": generation}, "status": {"conditions": [row]}}


@pytest.mark.parametrize(
    ("reference", "repository", "tag"),
    [
        ("localhost:5001/octavo-operator:abc", "localhost:5001/octavo-operator", "abc"),
        ("ghcr.io/me/x@sha256:00", "ghcr.io/me/x", "sha256:00"),
    ],
)
def test_a_reference_is_split_at_its_tag(reference: str, repository: str, tag: str) -> None:
    assert split_reference(reference) == (repository, tag)


def test_the_port_of_a_registry_is_no_tag() -> None:
    with pytest.raises(ValueError, match="neither a tag nor a digest"):
        split_reference("localhost:5001/octavo-operator")


def test_the_chart_is_given_both_images_and_prometheus() -> None:
    flags = values(Images("r:1/o:a", "r:1/t:b"), "http://p:9090")
    assert flags == [
        "--set-string=image.repository=r:1/o",
        "--set-string=image.tag=a",
        "--set-string=runtime.image.repository=r:1/t",
        "--set-string=runtime.image.tag=b",
        "--set-string=prometheus.url=http://p:9090",
    ]


def test_what_the_builder_prints_is_read() -> None:
    printed = ["octavo-operator=r/o:1", "octavo-runtime=r/t:2"]
    assert parse_references(printed) == Images("r/o:1", "r/t:2")
    with pytest.raises(ValueError, match="octavo-runtime"):
        parse_references(printed[:1])


def test_an_own_cluster_needs_a_registry() -> None:
    with pytest.raises(ValueError, match="--registry"):
        OwnCluster("mine", "")


def test_ready_of_an_earlier_generation_is_not_ready() -> None:
    assert is_ready(resource(2, 2, "True"))
    assert not is_ready(resource(3, 2, "True"))
    assert not is_ready(resource(2, 2, "False"))
    assert not is_ready(None)


def test_a_condition_that_is_not_there_is_unknown() -> None:
    assert condition(None, "Ready") is ABSENT
    assert condition({"metadata": {}}, "Ready").status == "Unknown"


def test_a_wait_returns_what_it_saw() -> None:
    numbers = iter(range(10))
    assert wait_for("three", lambda: next(numbers), lambda n: n == 3, interval_seconds=0) == 3


def test_a_wait_in_vain_says_what_it_saw_and_why() -> None:
    with pytest.raises(
        WaitTimeoutError, match=r"waited 0 s for a miracle; last seen: rain\nEvents"
    ):
        wait_for(
            "a miracle",
            lambda: "rain",
            lambda seen: seen == "sun",
            timeout_seconds=0,
            interval_seconds=0,
            explain=lambda: "Events",
        )


def test_a_failing_command_while_waiting_means_not_yet() -> None:
    def look() -> bool:
        raise CommandError(["kubectl"], "not found")

    with pytest.raises(WaitTimeoutError, match="not found"):
        wait_for("an object", look, timeout_seconds=0, interval_seconds=0)


def test_a_failing_command_is_quoted_with_its_answer() -> None:
    with pytest.raises(CommandError, match=r"sys\.exit[\s\S]*no such thing"):
        run([sys.executable, "-c", "import sys; sys.exit('no such thing')"])


def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(CommandError, match=r"no end after 0\.1 s"):
        run([sys.executable, "-c", "import time; time.sleep(30)"], timeout_seconds=0.1)


def test_a_long_script_is_cut_where_a_command_is_shown() -> None:
    assert len(readable(["python", "-c", "x" * 5000])) < 150


def test_a_typed_command_names_the_namespace_but_not_our_kubeconfig() -> None:
    kubectl = Kubectl("/cache/kubectl", Path("/cache/kubeconfig"), "team a")
    assert kubectl.typed("get", "llmd") == "kubectl -n 'team a' get llmd"
    assert kubectl.command("get")[1:] == [
        "--kubeconfig=/cache/kubeconfig",
        "--namespace=team a",
        "get",
    ]


def test_rows_of_a_table_differ_by_more_than_their_age() -> None:
    assert same_but_for_age("demo 1/1 0 5s") == same_but_for_age("demo   1/1 0  9s")
    assert same_but_for_age("demo 1/1 0 5s") != same_but_for_age("demo 1/3 0 5s")


def test_the_client_meets_the_restricted_pod_security_standard() -> None:
    spec = client_pod("image")["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False


class _Cluster(Kubectl):
    """Answers as a cluster in which a pod hangs."""

    def get(self, kind: str, name: str) -> Object | None:
        row = {"type": "Ready", "status": "False", "reason": "ImagePullFailed", "message": "no tag"}
        return {"status": {"conditions": [row]}}

    def list(self, kinds: str, selector: str | None = None) -> list[Object]:
        if kinds == "pods":
            waiting = {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}
            container = {"name": "octavo", "restartCount": 0, "state": waiting}
            status = {"phase": "Pending", "containerStatuses": [container]}
            return [{"metadata": {"name": "demo-1"}, "status": status}]
        event = {
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "reason": "FailedScheduling",
            "message": "no node",
            "involvedObject": {"kind": "Pod", "name": "demo-1"},
        }
        return [event]

    def run(self, *args: str, stdin: str | None = None, timeout_seconds: float = 120) -> str:
        raise CommandError(["kubectl", *args], "the server is gone")


def test_an_explanation_holds_conditions_pods_events_and_what_could_not_be_read() -> None:
    text = explaining.explain(_Cluster("kubectl", Path("config"), "here"), "demo")
    for words in ("ImagePullFailed: no tag", "manifest unknown", "FailedScheduling", "is gone"):
        assert words in text
