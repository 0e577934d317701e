from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from octavo_operator.api.quantity import duration_seconds
from octavo_operator.api.v1alpha1.pods import MAX_PROGRESS_DEADLINE
from octavo_operator.render.cache import is_of_one_node
from octavo_operator.render.pod import pod_template
from tests.support.operator.builders import INSTALLATION, KEY, pod_context
from tests.support.operator.rendered_pods import SOURCES, containers, pod_spec


@pytest.mark.parametrize("model", SOURCES, ids=lambda model: model["uri"])
def test_the_pod_meets_the_restricted_standard(model: dict[str, Any]) -> None:
    spec = pod_spec(model=model)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert {next(key for key in volume if key != "name") for volume in spec["volumes"]} <= {
        "emptyDir",
        "persistentVolumeClaim",
    }
    for container in containers(spec):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}


def test_the_pod_has_no_token_and_no_injected_services() -> None:
    spec = pod_spec()
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["serviceAccountName"] == KEY.name


def test_a_signal_that_comes_while_the_process_starts_is_not_lost() -> None:
    """Process 1 of a PID namespace ignores signals without a handler."""
    assert pod_spec()["shareProcessNamespace"] is True


def test_the_credentials_of_the_download_reach_the_download_alone() -> None:
    spec = pod_spec(model=SOURCES[1])
    (fetch,), (serve,) = spec["initContainers"], spec["containers"]
    assert fetch["envFrom"] == [{"secretRef": {"name": "token"}}]
    assert "token" not in str(serve)


def test_a_downloaded_model_is_served_from_where_it_was_fetched_to_without_a_hub() -> None:
    spec = pod_spec(model=SOURCES[1])
    (fetch,), (serve,) = spec["initContainers"], spec["containers"]
    folder = fetch["args"][fetch["args"].index("--to") + 1]
    assert fetch["args"][:2] == ["fetch", "hf://org/name"]
    assert serve["args"][:4] == ["serve", "hf://org/name", "--download-dir", folder]
    mounts = {mount["name"]: mount for mount in serve["volumeMounts"]}
    assert mounts["models"] == {"name": "models", "mountPath": folder, "readOnly": True}
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in serve["env"]


def test_a_claim_is_mounted_read_only_and_served_by_path() -> None:
    spec = pod_spec(model={"uri": "pvc://claim/a/b/"})
    (serve,) = spec["containers"]
    assert serve["args"][1] == "/claim/a/b"
    assert {"name": "claim", "mountPath": "/claim", "readOnly": True} in serve["volumeMounts"]
    assert "initContainers" not in spec


def test_a_cache_of_one_node_keeps_the_replicas_on_it() -> None:
    once = pod_spec(model=SOURCES[1])
    many = pod_spec(
        model={"uri": "hf://o/n", "cache": {"size": "5Gi", "accessMode": "ReadWriteMany"}}
    )
    assert "podAffinity" in once["affinity"]
    assert "affinity" not in many


def test_a_claim_that_one_node_mounts_keeps_the_replicas_on_it() -> None:
    once = pod_spec(model={"uri": "pvc://claim/a"}, is_claim_of_one_node=True)
    assert "podAffinity" in once["affinity"]
    assert "affinity" not in pod_spec(model={"uri": "pvc://claim/a"})


@pytest.mark.parametrize(
    ("modes", "is_one"),
    [
        (["ReadWriteOnce"], True),
        (["ReadWriteOncePod"], True),
        (["ReadWriteMany"], False),
        (["ReadOnlyMany"], False),
        (["ReadWriteOnce", "ReadOnlyMany"], False),
    ],
)
def test_a_claim_s_access_modes_say_how_many_nodes_mount_it(modes: list[str], is_one: bool) -> None:
    assert is_of_one_node({"spec": {"accessModes": modes}}) is is_one


def test_without_resources_the_defaults_hold_and_nothing_is_limited() -> None:
    (serve,) = pod_spec()["containers"]
    assert serve["resources"] == {"requests": {"cpu": "500m", "memory": "1Gi"}}


def test_a_gpu_is_requested_and_limited_alike() -> None:
    resources = {"gpu": 1, "gpuResource": "amd.com/gpu", "cpu": 8, "memory": "64Gi"}
    (serve,) = pod_spec(resources=resources)["containers"]
    assert serve["resources"]["requests"] == {"cpu": "8", "memory": "64Gi", "amd.com/gpu": "1"}
    assert serve["resources"]["limits"] == {"memory": "64Gi", "amd.com/gpu": "1"}


@pytest.mark.parametrize(
    ("gpus", "engine", "size", "settings"),
    [
        (0, {}, "1Gi", []),
        (1, {}, "1Gi", []),
        (4, {}, "4Gi", ["0"]),
        (4, {"tensorParallelSize": 2}, "2Gi", ["0"]),
        (4, {"device": "cpu"}, "1Gi", []),
    ],
)
def test_gpus_that_share_a_model_have_room_and_settings_for_nccl(
    gpus: int, engine: dict[str, Any], size: str, settings: list[str]
) -> None:
    spec = pod_spec(engine=engine, resources={"gpu": gpus})
    volume = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
    assert volume in spec["volumes"]
    (serve,) = spec["containers"]
    found = [each["value"] for each in serve["env"] if each["name"] == "NCCL_CUMEM_HOST_ENABLE"]
    assert found == settings


def test_a_setting_of_nccls_that_the_pod_names_is_the_pods() -> None:
    variables = [{"name": "NCCL_CUMEM_HOST_ENABLE", "value": "1"}]
    (serve,) = pod_spec(resources={"gpu": 2}, pods={"env": variables})["containers"]
    assert [each for each in serve["env"] if each["name"].startswith("NCCL")] == variables


@pytest.mark.parametrize("cpu", [None, "2500m"])
def test_threads_follow_a_stated_request_of_cpus(cpu: str | None) -> None:
    (serve,) = pod_spec(resources={"cpu": cpu} if cpu else {})["containers"]
    reference = {"resource": "requests.cpu", "divisor": "1"}
    variable = {"name": "OCTAVO_CPUS", "valueFrom": {"resourceFieldRef": reference}}
    assert (variable in serve["env"]) == (cpu is not None)


def test_a_pod_may_drain_longer_than_its_requests_take() -> None:
    spec = pod_spec(rollout={"drainTimeout": "2m"})
    (serve,) = spec["containers"]
    timeout = int(serve["args"][serve["args"].index("--shutdown-timeout") + 1])
    assert timeout == 120
    assert spec["terminationGracePeriodSeconds"] > timeout


def test_the_startup_probe_outlasts_every_progress_deadline() -> None:
    (serve,) = pod_spec()["containers"]
    probe = serve["startupProbe"]
    longest = duration_seconds(MAX_PROGRESS_DEADLINE)
    assert probe["periodSeconds"] * probe["failureThreshold"] >= longest
    assert {
        serve[name]["httpGet"]["port"]
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    } == {"ops"}


@pytest.mark.parametrize(
    ("auth", "source"),
    [
        (
            {"secretRef": {"name": "keys"}},
            {"secretName": "keys", "items": [{"key": "api-key", "path": "api-key"}]},
        ),
        (
            {"secretRef": {"name": "keys", "key": "token"}},
            {"secretName": "keys", "items": [{"key": "token", "path": "token"}]},
        ),
        (  # a file that the server reads: no hidden one
            {"secretRef": {"name": "keys", "key": ".token"}},
            {"secretName": "keys", "items": [{"key": ".token", "path": "token"}]},
        ),
        ({"keysFrom": {"secretRef": {"name": "keys"}}}, {"secretName": "keys"}),
    ],
)
def test_the_api_keys_are_files_of_a_secret_that_change_under_the_pod(
    auth: dict[str, Any], source: dict[str, Any]
) -> None:
    spec = pod_spec(auth=auth)
    (serve,) = spec["containers"]
    (volume,) = [each for each in spec["volumes"] if "secret" in each]
    # Group-readable, and a missing Secret holds the pod up: `optional` would start it without keys.
    assert volume["secret"] == {**source, "defaultMode": 0o440}
    (mount,) = [each for each in serve["volumeMounts"] if each["name"] == volume["name"]]
    # `subPath` would keep the keys of the start.
    assert mount == {"name": volume["name"], "mountPath": "/etc/octavo/api-keys", "readOnly": True}
    assert serve["args"][-2:] == ["--api-key-file", mount["mountPath"]]
    assert "OCTAVO_API_KEY" not in str(serve["env"])


def test_the_download_sees_no_api_key() -> None:
    spec = pod_spec(model={"uri": "hf://o/n"}, auth={"secretRef": {"name": "keys"}})
    assert "keys" not in str(spec["initContainers"])


def test_without_auth_there_is_no_secret() -> None:
    spec = pod_spec()
    assert "secret" not in str(spec["volumes"])
    assert "--api-key-file" not in spec["containers"][0]["args"]


def test_the_placement_is_passed_on() -> None:
    spec = pod_spec(
        scheduling={
            "nodeSelector": {"gpu": "h100"},
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            ],
            "runtimeClassName": "nvidia",
            "priorityClassName": "high",
        }
    )
    assert spec["nodeSelector"] == {"gpu": "h100"}
    assert spec["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert (spec["runtimeClassName"], spec["priorityClassName"]) == ("nvidia", "high")


def test_prometheus_finds_the_ops_port() -> None:
    annotations = pod_template(pod_context())["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == "8001"


def test_a_quota_on_limits_can_be_met_by_every_container() -> None:
    resources = {
        "cpu": 4,
        "cpuLimit": 8,
        "memory": "16Gi",
        "ephemeralStorage": "40Gi",
        "download": {"cpu": 1, "memory": "1Gi", "ephemeralStorage": "40Gi"},
    }
    spec = pod_spec(model={"uri": "hf://o/n"}, resources=resources)
    (fetch,), (serve,) = spec["initContainers"], spec["containers"]
    assert serve["resources"] == {
        "requests": {"cpu": "4", "memory": "16Gi", "ephemeral-storage": "40Gi"},
        "limits": {"cpu": "8", "memory": "16Gi", "ephemeral-storage": "40Gi"},
    }
    limits = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "40Gi"}
    assert fetch["resources"] == {"requests": limits, "limits": limits}


def test_a_limit_of_the_download_that_is_not_stated_is_none() -> None:
    spec = pod_spec(model={"uri": "hf://o/n"}, resources={"download": {"memory": "1Gi"}})
    assert spec["initContainers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "1Gi"},
        "limits": {"memory": "1Gi"},
    }


def test_labels_annotations_variables_and_pull_secrets_reach_the_pods() -> None:
    made = pod_context(
        installation=replace(INSTALLATION, image_pull_secrets=("shared",)),
        pods={
            "labels": {"team": "blue"},
            "annotations": {"example.com/cost-centre": "42"},
            "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
            "imagePullSecrets": [{"name": "mine"}, {"name": "shared"}],
        },
    )
    template = pod_template(made)
    assert template["metadata"]["labels"]["team"] == "blue"
    assert template["metadata"]["labels"]["octavo.dev/llmdeployment"] == KEY.name
    assert template["metadata"]["annotations"]["example.com/cost-centre"] == "42"
    assert template["metadata"]["annotations"]["prometheus.io/port"] == "8001"
    assert {"name": "NCCL_DEBUG", "value": "INFO"} in template["spec"]["containers"][0]["env"]
    assert template["spec"]["imagePullSecrets"] == [{"name": "shared"}, {"name": "mine"}]
