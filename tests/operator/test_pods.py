from __future__ import annotations

import json
from typing import Any

import pytest

from octavo_operator.api.conditions import RUNTIME_REASONS, Reason
from octavo_operator.pods import SETUP_PATIENCE_SECONDS, staying, view, views
from octavo_operator.render.pod import pod_template
from tests.support.operator.builders import NOW, after, container, pod, pod_context

GPU = "nvidia.com/gpu"


def finding(**fields: Any) -> tuple[Reason, str] | None:
    found = view(pod(**fields), GPU, NOW).finding
    return (found.reason, found.message) if found else None


@pytest.mark.parametrize("waiting", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_pulled_is_named(waiting: str) -> None:
    found = finding(statuses=[container(waiting=(waiting, "manifest unknown"))])
    assert found == (
        Reason.IMAGE_PULL_FAILED,
        "registry.example/octavo-runtime:1: manifest unknown",
    )


def test_a_missing_secret_is_told_from_other_faults_of_the_container() -> None:
    secret = ("CreateContainerConfigError", 'secret "keys" not found')
    other = ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")
    assert finding(statuses=[container(waiting=secret)]) == (Reason.SECRET_NOT_FOUND, secret[1])
    found = finding(statuses=[container(waiting=other)])
    assert found is not None
    assert found[0] is Reason.CONTAINER_CONFIG_INVALID


@pytest.mark.parametrize("reason", sorted(RUNTIME_REASONS))
def test_what_the_runtime_says_at_its_end_is_passed_on(reason: Reason) -> None:
    message = json.dumps({"reason": reason.value, "message": "the sentence"})
    ended = {"exitCode": 3, "reason": "Error", "message": message}
    assert finding(statuses=[container(ended=ended)]) == (reason, "the sentence")


def test_it_still_holds_while_the_container_backs_off_or_starts_again() -> None:
    message = json.dumps({"reason": "ModelNotFound", "message": "no such model"})
    before = {"exitCode": 3, "message": message}
    backing_off = container(waiting=("CrashLoopBackOff", "back-off 10s"), ended_before=before)
    again = container(running=True, ended_before=before)
    for status in (backing_off, again):
        assert finding(statuses=[status]) == (Reason.MODEL_NOT_FOUND, "no such model")


def test_a_pod_that_answers_has_overcome_its_past() -> None:
    status = container(running=True, ended_before={"exitCode": 137, "reason": "OOMKilled"})
    assert finding(ready=True, statuses=[status]) is None


@pytest.mark.parametrize(
    "message", ["", "Traceback:\n  boom", '{"reason": "Haxx", "message": "x"}', "[1]", '"text"']
)
def test_an_end_without_the_contract_s_reason_is_a_crash(message: str) -> None:
    found = finding(statuses=[container(ended={"exitCode": 1, "message": message})])
    assert found is not None
    assert found[0] is Reason.CRASHING
    assert found[1].startswith("exit code 1")


READY = '{"level": "info", "event": "ready", "seconds": 3}'
FAILED = '{"level": "error", "event": "engine died", "error": "CUDA error\\nno memory"}'


@pytest.mark.parametrize(
    ("code", "log", "said"),
    [
        (137, READY, "exit code 137: killed by SIGKILL, by the node or by hand; `kubectl logs"),
        (
            139,
            f"{READY}\nFatal Python error",
            "exit code 139: killed by SIGSEGV: Fatal Python error",
        ),
        (1, f"{FAILED}\n{READY}", "exit code 1: engine died: CUDA error"),
        (255, READY, "exit code 255; `kubectl logs"),
    ],
)
def test_an_ordinary_line_of_the_log_is_no_reason_of_an_end(code: int, log: str, said: str) -> None:
    """The kubelet passes on the end of the log where the container left no message."""
    found = finding(statuses=[container(ended={"exitCode": code, "message": log})])
    assert found is not None
    assert found[0] is Reason.CRASHING
    assert found[1].startswith(said)
    assert "ready" not in found[1]


def test_a_container_killed_at_its_limit_is_out_of_memory() -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    found = finding(statuses=[container(ended_before=ended, running=True)])
    assert found is not None
    assert found[0] is Reason.OUT_OF_MEMORY
    assert "spec.resources.memory" in found[1]


def test_a_download_that_failed_is_found_and_one_that_was_repeated_well_is_not() -> None:
    message = json.dumps({"reason": "DownloadFailed", "message": "timed out"})
    failed = container("fetch", ended={"exitCode": 3, "message": message})
    repeated = container(
        "fetch", ended={"exitCode": 0}, ended_before={"exitCode": 3, "message": message}
    )
    assert finding(init_statuses=[failed]) == (Reason.DOWNLOAD_FAILED, "timed out")
    assert finding(init_statuses=[repeated]) is None


def test_a_pod_at_a_gate_waits_for_room_as_one_that_does_not_fit_does() -> None:
    """Kueue opens it when the queue's quota has room."""
    gated = pod(unschedulable="Scheduling is blocked due to non-empty scheduling gates")
    gated["status"]["conditions"][1]["reason"] = "SchedulingGated"
    found = view(gated, "nvidia.com/gpu", NOW).finding
    assert found is not None
    assert (found.reason, found.since, found.is_shortage) == (Reason.UNSCHEDULABLE, NOW, True)
    assert "gate" in found.message


def test_what_stops_the_draft_says_so() -> None:
    message = json.dumps({"reason": "ModelNotFound", "message": "The hub knows no model hf://o/d."})
    failed = container("fetch-draft", ended={"exitCode": 3, "message": message})
    fetched = container("fetch", ended={"exitCode": 0})
    assert finding(init_statuses=[fetched, failed]) == (
        Reason.MODEL_NOT_FOUND,
        "spec.engine.speculative.model: The hub knows no model hf://o/d.",
    )
    killed = container("fetch-draft", ended={"exitCode": 137, "reason": "OOMKilled"})
    found = finding(init_statuses=[fetched, killed])
    assert found is not None
    assert found[0] is Reason.OUT_OF_MEMORY
    assert "spec.resources.download.memory" in found[1]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", Reason.INSUFFICIENT_GPU),
        ("0/3 nodes are available: 3 Insufficient cpu.", Reason.UNSCHEDULABLE),
        ('persistentvolumeclaim "weights" not found', Reason.VOLUME_UNAVAILABLE),
        ("pod has unbound immediate PersistentVolumeClaims", Reason.VOLUME_UNAVAILABLE),
    ],
)
def test_what_the_scheduler_says_is_told_apart(message: str, reason: Reason) -> None:
    assert finding(unschedulable=message, statuses=[]) == (reason, message)
    found = view(pod(unschedulable=message), GPU, NOW).finding
    assert found is not None
    assert found.since == NOW


@pytest.mark.parametrize(
    "message",
    [
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
        '0/1 nodes are available: storageclass.storage.k8s.io "fsat" not found.',
    ],
)
def test_a_claim_without_a_volume_is_named_with_the_field_of_its_class(message: str) -> None:
    waiting = pod(unschedulable=message, claims=("llama-models", "weights"))
    mounts = [
        {"name": "llama-models", "mountPath": "/models"},
        {"name": "weights", "mountPath": "/draft-claim"},
    ]
    waiting["spec"]["containers"] = [{"name": "octavo", "volumeMounts": mounts}]
    found = view(waiting, GPU, NOW).finding
    assert found is not None
    assert found.reason is Reason.VOLUME_UNAVAILABLE
    assert "llama-models (spec.model.cache.storageClassName) or weights: " in found.message
    assert "`kubectl describe pvc llama-models weights`" in found.message
    assert found.message.endswith(message)


def test_a_pod_whose_node_does_not_set_it_up_is_said_after_a_while_and_not_before() -> None:
    def found(seconds: float, **fields: Any) -> Reason | None:
        seen = view(pod(setting_up=True, **fields), GPU, after(seconds)).finding
        return seen.reason if seen else None

    assert found(SETUP_PATIENCE_SECONDS - 1) is None
    assert found(SETUP_PATIENCE_SECONDS) is Reason.SANDBOX_UNAVAILABLE
    assert found(SETUP_PATIENCE_SECONDS, claims=("weights",)) is Reason.VOLUME_UNAVAILABLE
    assert found(SETUP_PATIENCE_SECONDS, secrets=("keys",)) is Reason.SECRET_NOT_FOUND
    assert found(SETUP_PATIENCE_SECONDS, ready=True) is None
    slow_pull = pod(statuses=[container(waiting=("ContainerCreating", ""))])
    assert view(slow_pull, GPU, after(3600)).finding is None


def test_a_volume_that_is_not_mounted_is_named_with_where_to_look() -> None:
    named = pod(setting_up=True, claims=("weights",), secrets=("keys",))
    found = view(named, GPU, after(60)).finding
    assert found is not None
    assert "claim weights, Secret keys" in found.message
    assert "kubectl -n team describe pod llama-1" in found.message


def unmounted(*volumes: dict[str, Any]) -> tuple[Reason, str]:
    """What is found in a pod that waits for these."""
    waiting = pod(setting_up=True)
    waiting["spec"]["volumes"] = list(volumes)
    found = view(waiting, GPU, after(60)).finding
    assert found is not None
    return found.reason, found.message


def test_a_key_that_a_secret_must_have_is_named_as_the_spec_has_it() -> None:
    one = {"secretRef": {"name": "keys", "key": "token"}}
    every = {"keysFrom": {"secretRef": {"name": "team-keys"}}}
    for auth, text in ((one, "Secret keys with its key token in"), (every, "Secret team-keys in")):
        template = pod_template(pod_context(auth=auth))
        reason, message = unmounted(*template["spec"]["volumes"])  # type: ignore[arg-type]
        assert reason is Reason.SECRET_NOT_FOUND
        assert text in message


def test_every_object_that_a_volume_asks_for_is_named_with_its_keys() -> None:
    both = [{"key": "a", "path": "x"}, {"key": "b", "path": "y"}]
    settings = {"configMap": {"name": "settings", "items": both}}
    reason, message = unmounted(settings)
    assert reason is Reason.SANDBOX_UNAVAILABLE
    assert "ConfigMap settings with its keys a, b in" in message
    sources = [
        {"serviceAccountToken": {"path": "token"}},
        {"secret": {"name": "cert", "items": both[:1]}},
        {"configMap": {"name": "root", "optional": True}},
    ]
    reason, message = unmounted(settings, {"projected": {"sources": sources}})
    assert reason is Reason.SECRET_NOT_FOUND
    assert "Secret cert with its key a, ConfigMap settings with its keys a, b in" in message
    assert "root" not in message


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("couldn't find key token in Secret team/keys", Reason.SECRET_NOT_FOUND),
        ("couldn't find key a in ConfigMap team/settings", Reason.CONTAINER_CONFIG_INVALID),
    ],
)
def test_the_kubelet_s_word_on_a_missing_key_is_passed_on(told: str, reason: Reason) -> None:
    found = finding(statuses=[container(waiting=("CreateContainerConfigError", told))])
    assert found is not None
    assert found[0] is reason
    assert told in found[1]


def test_a_message_of_any_length_is_cut() -> None:
    found = finding(statuses=[container(waiting=("ErrImagePull", "x" * 100_000))])
    assert found is not None
    assert len(found[1]) < 2000


def test_pods_on_their_way_out_do_not_count() -> None:
    pods = [
        pod("b", ready=True),
        pod("a", ready=True),
        pod("c", ready=True, leaving=True),
        pod("d", phase="Failed"),
    ]
    assert [each.name for each in staying(views(pods, GPU, NOW))] == ["a", "b"]


def test_gpus_are_those_that_the_pod_asks_for_until_it_is_over() -> None:
    def held(resource: str, phase: str = "Running", *, leaving: bool = False) -> int:
        made = pod(phase=phase, leaving=leaving)
        four, one = ({"resources": {"limits": {GPU: count}}} for count in ("4", "1"))
        made["spec"] |= {"containers": [four, one, {}], "initContainers": [four, {}]}
        return view(made, resource, NOW).gpus

    assert held(GPU) == held(GPU, "Pending") == held(GPU, leaving=True) == 5
    assert held("amd.com/gpu") == held(GPU, "Failed") == held(GPU, "Succeeded") == 0


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"unschedulable": "no"}, "being scheduled"),
        (
            {"statuses": [container(waiting=("ContainerCreating", ""))]},
            "pulling the image or starting the container",
        ),
        ({"init_statuses": [container("fetch", running=True)]}, "downloading the model"),
        (
            {"init_statuses": [container("fetch-draft", running=True)], "statuses": []},
            "downloading the draft model",
        ),
        ({}, "loading the model"),
    ],
)
def test_the_phase_of_a_start_is_put_in_words(fields: dict[str, Any], text: str) -> None:
    assert view(pod(**fields), GPU, NOW).phase_text == text
