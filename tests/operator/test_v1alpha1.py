from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from octavo_operator.api.conditions import Reason
from octavo_operator.api.quantity import duration_seconds
from octavo_operator.api.v1alpha1 import ineffective_fields
from tests.support.operator.builders import spec


@pytest.mark.parametrize(
    "uri",
    [
        "hf://meta-llama/Llama-3.1-8B-Instruct",
        "hf://org/name@refs/pr/1",
        "s3://bucket/a/b",
        "pvc://claim/models/llama",
        "pvc://claim",
        "builtin://demo",
    ],
)
def test_every_documented_form_of_a_uri_is_accepted(uri: str) -> None:
    assert spec(model={"uri": uri}).model.uri == uri


@pytest.mark.parametrize(
    "uri",
    [
        "../../etc",
        "/etc/passwd",
        "hf://../x",
        "hf://org/na..me",
        "pvc://claim/../other",
        "pvc://claim/a/../../b",
        "hf://org",
        "s3://bucket",
        "hf://org/name@../../x",
        "hf://-x/--host",
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "builtin://demo; rm -rf /",
        "hf://org/name\nx",
        "builtin://demo\n",
        "",
    ],
)
def test_a_uri_that_could_leave_its_place_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match=r"model\.uri"):
        spec(model={"uri": uri})


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}, "autoscaling"),
        ({"autoscaling": {"minReplicas": 0, "maxReplicas": 2}}, "autoscaling.minReplicas"),
        ({"replicas": -1}, "replicas"),
        ({"engine": {"gpuMemoryUtilization": "1.5"}}, "engine.gpuMemoryUtilization"),
        ({"engine": {"gpuMemoryUtilization": "0.01"}}, "engine.gpuMemoryUtilization"),
        ({"engine": {"maxModelLen": 1}}, "engine.maxModelLen"),
        ({"engine": {"dtype": "int3"}}, "engine.dtype"),
        ({"engine": {"kvCacheDtype": "int8"}}, "engine.kvCacheDtype"),
        ({"engine": {"quantization": "gguf"}}, "engine.quantization"),
        ({"engine": {"enablePrefixCaching": "perhaps"}}, "engine.enablePrefixCaching"),
        ({"resources": {"gpu": 65}}, "resources.gpu"),
        ({"resources": {"memory": "lots"}}, "resources.memory"),
        ({"rollout": {"drainTimeout": "soon"}}, "rollout.drainTimeout"),
        ({"rollout": {"progressDeadline": "0s"}}, "rollout.progressDeadline"),
        ({"rollout": {"progressDeadline": "24h1s"}}, "rollout.progressDeadline"),
        ({"model": {"uri": "builtin://demo", "servedNames": ["--host"]}}, "model.servedNames"),
        ({"auth": {"secretRef": {"name": "../x"}}}, "auth.secretRef.name"),
    ],
)
def test_a_wrong_value_is_refused_by_name(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**fields)
    location = ".".join(str(part) for part in caught.value.errors()[0]["loc"])
    assert location.startswith(path)


@pytest.mark.parametrize(
    ("stored", "seconds"),
    [("48h", 86400), ("1500m", 86400), ("100000s", 86400), ("24h", 86400), ("1440m", 86400)],
)
def test_a_drain_that_was_stored_before_it_had_a_bound_is_cut(stored: str, seconds: int) -> None:
    assert duration_seconds(spec(rollout={"drainTimeout": stored}).rollout.drain_timeout) == seconds


def test_what_was_stored_under_earlier_rules_is_still_served() -> None:
    stored = spec(
        resources={"cpu": "0", "memory": "500k"},
        engine={"kvCacheMemory": "100k"},
        autoscaling={"maxReplicas": 2, "scaleDownStabilization": "100000s"},
    )
    assert (stored.resources.cpu, stored.resources.memory) == ("0", "500k")
    assert stored.autoscaling is not None
    assert duration_seconds(stored.autoscaling.scale_down_stabilization) == 100_000


def test_a_bare_number_is_a_quantity() -> None:
    assert spec(resources={"cpu": 8}).resources.cpu == "8"


def test_every_reason_tells_its_meaning_its_origin_and_what_to_do() -> None:
    for reason in Reason:
        assert reason.meaning.endswith("."), reason
        assert reason.set_by, reason
        assert reason.action.endswith("."), reason
    assert len({reason.value for reason in Reason}) == len(list(Reason))


@pytest.mark.parametrize(
    "key",
    [
        "octavo.dev/llmdeployment",
        "app.kubernetes.io/name",
        "pod-template-hash",
        "prometheus.io/port",
        "kubectl.kubernetes.io/default-container",
    ],
)
@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_what_octavo_sets_on_the_pods_is_not_the_spec_s(field: str, key: str) -> None:
    with pytest.raises(ValidationError, match="that Octavo sets"):
        spec(pods={field: {key: "x"}})


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "PATH", "HF_ENDPOINT", "OCTAVO_API_KEY", "NVIDIA_VISIBLE_DEVICES", "PYTHONPATH"],
)
def test_a_variable_that_reaches_past_the_namespace_or_the_flags_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        spec(pods={"env": [{"name": name, "value": "x"}]})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"engine": {"device": "cpu", "gpuMemoryUtilization": "0.9"}}, ["gpuMemoryUtilization"]),
        (
            {"engine": {"enforceEager": False, "gpuMemoryUtilization": "0.9"}},
            ["gpuMemoryUtilization", "enforceEager"],
        ),
        (
            {"engine": {"device": "cpu"}, "resources": {"gpu": 1}},
            ["resources.gpu", "engine.device"],
        ),
        (
            {"engine": {"tensorParallelSize": 2}, "resources": {"gpu": 4}},
            ["resources.gpu", "engine.tensorParallelSize"],
        ),
        ({"engine": {"tensorParallelSize": 4}, "resources": {"gpu": 4}}, []),
        ({"resources": {"gpu": 4}}, []),
        ({"resources": {"download": {"cpu": "1"}}}, ["resources.download"]),
        (
            {"engine": {"maxLoras": 2, "maxLoraRank": 8, "maxCpuLoras": 4}},
            ["maxLoras", "maxLoraRank", "maxCpuLoras", "enableLora"],
        ),
        ({"engine": {"enableLora": True, "maxLoras": 2}}, []),
        ({"engine": {"distributedTimeoutSeconds": 60}}, ["distributedTimeoutSeconds"]),
        (
            {"engine": {"distributedTimeoutSeconds": 60}, "resources": {"gpu": 1}},
            ["distributedTimeoutSeconds", "tensorParallelSize"],
        ),
        ({"engine": {"distributedTimeoutSeconds": 60}, "resources": {"gpu": 2}}, []),
        ({"engine": {"distributedTimeoutSeconds": 60, "tensorParallelSize": 2}}, []),
        ({"engine": {"device": "cuda", "enforceEager": True}}, []),
        ({"engine": {"enforceEager": True}, "resources": {"gpu": 1}}, []),
        ({"model": {"uri": "s3://b/m"}, "resources": {"download": {"cpu": "1"}}}, []),
        ({"engine": {"device": "cpu", "kvCacheDtype": "fp8"}, "resources": {"gpu": 0}}, []),
    ],
)
def test_a_field_that_nothing_follows_from_is_named(
    fields: dict[str, Any], named: list[str]
) -> None:
    told = ineffective_fields(spec(**fields))
    assert all(f"spec.{name}" in told or f"spec.engine.{name}" in told for name in named), told
    assert bool(told) is bool(named), told


def test_a_model_that_the_schema_once_took_is_still_read() -> None:
    assert spec(model={"uri": "builtin://other"}).model.uri == "builtin://other"
