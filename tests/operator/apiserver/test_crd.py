"""What the API server takes and what it answers to a wrong spec: the field and a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from tests.support.operator.admin import MINIMAL, Admin, create, path
from tests.support.operator.refused_specs import BETWEEN_FIELDS

FULL: dict[str, Any] = {
    "model": {
        "uri": "hf://meta-llama/Llama-3.1-8B-Instruct@main",
        "servedNames": ["llama-3.1-8b", "llama"],
        "secretRef": {"name": "hf-token"},
        "cache": {"size": "50Gi", "storageClassName": "fast", "accessMode": "ReadWriteMany"},
    },
    "engine": {
        "device": "cuda",
        "maxModelLen": 8192,
        "maxNumSeqs": 64,
        "maxNumBatchedTokens": 2048,
        "maxQueuedRequests": 256,
        "gpuMemoryUtilization": "0.9",
        "kvCacheMemory": "2Gi",
        "blockSize": 16,
        "dtype": "bfloat16",
        "loadFormat": "safetensors",
        "kvCacheDtype": "fp8",
        "enablePrefixCaching": False,
        "enforceEager": False,
        "seed": 0,
    },
    "autoscaling": {
        "minReplicas": 1,
        "maxReplicas": 8,
        "queueDepth": 4,
        "scaleDownStabilization": "5m",
    },
    "resources": {
        "gpu": 1,
        "gpuResource": "nvidia.com/gpu",
        "cpu": 8,
        "cpuLimit": 16,
        "memory": "64Gi",
        "ephemeralStorage": "100Gi",
        "download": {"cpu": "1", "memory": "2Gi", "ephemeralStorage": "100Gi"},
    },
    "pods": {
        "labels": {"team": "blue"},
        "annotations": {"example.com/cost-centre": "42"},
        "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
        "imagePullSecrets": [{"name": "registry"}],
    },
    "scheduling": {
        "nodeSelector": {"node.kubernetes.io/instance-type": "g6"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "runtimeClassName": "nvidia",
        "priorityClassName": "high",
    },
    "rollout": {"strategy": "Auto", "drainTimeout": "5m", "progressDeadline": "30m"},
    "auth": {"secretRef": {"name": "keys", "key": "token"}},
    "runtime": {"version": "1.2.3"},
    "service": {
        "type": "LoadBalancer",
        "annotations": {"external-dns.alpha.kubernetes.io/hostname": "llama.example.com"},
    },
    "server": {
        "allowedOrigins": [
            "https://chat.example.com",
            "http://localhost:3000",
            "http://[::1]:3000",
        ],
        "allowedHosts": ["llama.example.com", "*.internal.example.com", "[::1]"],
        "metricsNames": "vllm",
        "publicMetrics": True,
        "apiServerCount": 2,
    },
    "replicas": 2,
    "extraArgs": ["--tool-call-parser=hermes", "--no-ui"],
}


def test_a_spec_with_every_field_is_taken_whole_and_read_alike(
    admin: Admin, namespace: str
) -> None:
    answer = create(admin, namespace, **FULL)
    assert answer.status == 201, answer.message
    assert answer.body["spec"] == FULL
    assert set(FULL) == {field.alias for field in LLMDeploymentSpec.model_fields.values()}
    assert LLMDeploymentSpec.model_validate(answer.body["spec"]).replicas == 2


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (
            "--max-model-len=8192",
            "--max-model-len must not be among extraArgs: spec.engine.maxModelLen",
        ),
        ("--no-enable-prefix-caching", "spec.engine.enablePrefixCaching"),
        ("--speculative-config={}", "spec.engine.speculative"),
        ("--metrics-names=vllm", "spec.server.metricsNames"),
        ("--port", "--port must not be among extraArgs: the Service and the probes"),
        ("--model=org/name", "spec.model.uri"),
        ("--drain-grace=120", "spec.rollout.drainTimeout"),
        ("--chat-template=/etc/passwd", "any file of the container"),
        ("--api-key=a=b", "--api-key must not be among extraArgs: spec.auth"),
        ("--help", "serves nothing"),
        ("-h", "must be --flag or --flag=value in one item"),
        ("hermes", "must be --flag or --flag=value in one item"),
        ("--tool-call-parser hermes", "must be --flag or --flag=value in one item"),
        ("--max_model_len=1", "must be --flag or --flag=value in one item"),
        ("--", "must be --flag or --flag=value in one item"),
        ("--ui\n--port=1", "must be --flag or --flag=value in one item"),
    ],
)
def test_an_argument_that_is_not_the_users_to_give_is_refused_with_what_is_for_it(
    admin: Admin, session_namespace: str, argument: str, words: str
) -> None:
    answer = create(admin, session_namespace, extraArgs=["--log-level=debug", argument])
    assert answer.status == 422
    assert "spec.extraArgs[1]" in answer.message
    assert words in answer.message
    with pytest.raises(ValueError, match="must"):
        LLMDeploymentSpec.model_validate({**MINIMAL, "extraArgs": [argument]})


def test_the_smallest_spec_gets_its_replicas(admin: Admin, namespace: str) -> None:
    assert create(admin, namespace).body["spec"] == {**MINIMAL, "replicas": 1}


def test_an_object_that_the_operator_has_not_seen_says_so(admin: Admin, namespace: str) -> None:
    """kstatus takes one without a status for one that has arrived."""
    create(admin, namespace)
    live = admin.get(path(namespace, "llama")) or {}
    assert live["status"] == {"observedGeneration": -1}
    assert live["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"engine": {"device": "cpu", "quantization": "int8", "kvCacheDtype": "fp8"}},
        {"engine": {"quantization": "int4", "dtype": "float16"}, "resources": {"gpu": 1}},
        {"engine": {"device": "cpu"}, "resources": {"gpu": 0}},
        {"engine": {"tensorParallelSize": 2}},
        {"engine": {"tensorParallelSize": 1}, "resources": {"gpu": 1}},
        {"resources": {"gpu": 8}},
        {"engine": {"tensorParallelSize": 4}, "resources": {"gpu": 8}},
        {"engine": {"enableLora": True, "maxLoras": 2}},
        {"engine": {"enableLora": True}, "resources": {"gpu": 2}},
        # GPUs that do not exist are placed by the scheduler all the same.
        {"engine": {"device": "cpu"}, "resources": {"gpu": 1}},
        {"engine": {"device": "cuda", "enforceEager": True, "gpuMemoryUtilization": "0.5"}},
        # The runtime takes a GPU that it finds, so this may well have an effect.
        {"engine": {"enforceEager": True, "gpuMemoryUtilization": "0.5"}},
        {"model": {"uri": "s3://b/m"}, "resources": {"download": {"cpu": "1"}}},
        {
            "model": {"uri": "builtin://demo", "cache": {"size": "1Gi"}},
            "engine": {
                "speculative": {
                    "method": "draft_model",
                    "model": {"uri": "hf://o/d@v1", "secretRef": {"name": "token"}},
                    "numSpeculativeTokens": 8,
                }
            },
            "resources": {"download": {"cpu": "1"}},
        },
        {"engine": {"speculative": {"method": "eagle3", "model": {"uri": "pvc://heads/one"}}}},
    ],
)
def test_what_has_an_effect_is_taken(admin: Admin, namespace: str, spec: dict[str, Any]) -> None:
    answer = create(admin, namespace, **spec)
    assert answer.status == 201, answer.message


@pytest.mark.parametrize("length", [1, 63])
def test_a_name_of_up_to_63_characters_is_taken(admin: Admin, namespace: str, length: int) -> None:
    assert create(admin, namespace, "a" * length).status == 201


@pytest.mark.parametrize("name", ["a" * 64, "1a", "a.b"])
def test_a_name_that_no_service_could_have_is_refused(
    admin: Admin, namespace: str, name: str
) -> None:
    answer = create(admin, namespace, name)
    assert answer.status == 422
    assert "metadata.name must be at most 63 characters" in answer.message


@pytest.mark.parametrize(
    ("spec", "field", "sentence"),
    [
        (
            {"autoscaling": {"minReplicas": 0, "maxReplicas": 2}},
            "spec.autoscaling.minReplicas",
            "greater than or equal to 1",
        ),
        ({"autoscaling": {}}, "spec.autoscaling.maxReplicas", "Required value"),
        ({"model": {"uri": "../../etc"}}, "spec.model.uri", "must be hf://org/name[@revision]"),
        ({"model": {"uri": "pvc://a/../b"}}, "spec.model.uri", "without '..'"),
        ({"model": {"uri": "http://10.0.0.1/"}}, "spec.model.uri", "must be hf://"),
        ({"model": {"uri": "builtin://demo\n"}}, "spec.model.uri", "must be hf://"),
        ({"model": {}}, "spec.model.uri", "Required value"),
        (
            {"model": {"uri": "builtin://demo", "servedNames": ["--host"]}},
            "spec.model.servedNames[0]",
            "should match",
        ),
        (
            {"engine": {"gpuMemoryUtilization": "1.5"}},
            "spec.engine.gpuMemoryUtilization",
            'must be a quoted number from "0.05" to "1"',
        ),
        ({"engine": {"gpuMemoryUtilization": 0.9}}, "spec.engine.gpuMemoryUtilization", "string"),
        ({"engine": {"kvCacheMemory": "3Zi"}}, "spec.engine.kvCacheMemory", "must be a quantity"),
        ({"engine": {"blockSize": 17}}, "spec.engine.blockSize", "Unsupported value"),
        ({"engine": {"maxModelLen": 1}}, "spec.engine.maxModelLen", "greater than or equal to 2"),
        ({"replicas": -1}, "spec.replicas", "greater than or equal to 0"),
        ({"resources": {"gpu": 65}}, "spec.resources.gpu", "less than or equal to 64"),
        ({"resources": {"memory": "lots"}}, "spec.resources.memory", "must be a quantity"),
        ({"resources": {"memory": "500m"}}, "spec.resources.memory", "of at least 1Mi"),
        ({"resources": {"memory": 4096}}, "spec.resources.memory", "of at least 1Mi"),
        ({"resources": {"cpu": "0"}}, "spec.resources.cpu", "must be a quantity above 0"),
        ({"resources": {"cpu": 0}}, "spec.resources.cpu", "must be a quantity above 0"),
        ({"resources": {"cpu": "-1"}}, "spec.resources.cpu", "must be a quantity above 0"),
        ({"engine": {"kvCacheMemory": "100k"}}, "spec.engine.kvCacheMemory", "of at least 1Mi"),
        ({"rollout": {"drainTimeout": "5m\n"}}, "spec.rollout.drainTimeout", "must be a duration"),
        ({"rollout": {"drainTimeout": "soon"}}, "spec.rollout.drainTimeout", "must be a duration"),
        ({"rollout": {"progressDeadline": "2d"}}, "spec.rollout.progressDeadline", "a duration"),
        (
            {"rollout": {"progressDeadline": "25h"}},
            "spec.rollout.progressDeadline",
            "from 30s to 24h",
        ),
        ({"service": {"type": "NodePort"}}, "spec.service.type", "set auth"),
        ({"service": {"type": "ExternalName"}}, "spec.service.type", "Unsupported value"),
        (
            {"service": {"annotations": {"prometheus.io/port": "1"}}},
            "spec.service.annotations",
            "has a key that Octavo sets",
        ),
        (
            {"server": {"allowedOrigins": ["*", "https://chat.example.com/app"]}},
            "spec.server.allowedOrigins[1]",
            "must be * or scheme://host[:port] without a path",
        ),
        ({"server": {"allowedOrigins": ["*", "*"]}}, "allowedOrigins[1]", "Duplicate value"),
        ({"server": {"allowedOrigins": []}}, "spec.server.allowedOrigins", "at least 1 items"),
        (
            {"server": {"allowedHosts": ["chat.example.com:8000"]}},
            "spec.server.allowedHosts[0]",
            "must be a host's name or address without scheme and port",
        ),
        ({"server": {"metricsNames": "sglang"}}, "spec.server.metricsNames", "Unsupported value"),
        ({"server": {"publicMetrics": "yes"}}, "spec.server.publicMetrics", "boolean"),
        ({"server": {"apiServerCount": 65}}, "spec.server.apiServerCount", "should be less than"),
        ({"runtime": {"version": "a/b"}}, "spec.runtime.version", "should match"),
        ({"runtime": {"image": "ghcr.io/o/r"}}, "spec.runtime.image", "should match"),
        ({"auth": {}}, "spec.auth", "must have either secretRef or keysFrom"),
        ({"auth": {"keysFrom": {}}}, "spec.auth.keysFrom.secretRef", "Required value"),
        *((spec, field, sentence) for spec, field, sentence, _ in BETWEEN_FIELDS),
        (
            {"resources": {"gpu": 1, "gpuResource": "kubernetes.io/gpu"}},
            "spec.resources.gpuResource",
            "is no extended resource's name",
        ),
        (
            {"pods": {"annotations": {str(each): "é" * 4096 for each in range(32)}}},
            "spec.pods.annotations",
            "more than 200000 bytes together",
        ),
        (
            {"scheduling": {"nodeSelector": {"a b": "c"}}},
            "spec.scheduling.nodeSelector",
            "not a label key",
        ),
    ],
)
def test_a_wrong_spec_is_refused_with_its_field_and_a_sentence(
    admin: Admin, namespace: str, spec: dict[str, Any], field: str, sentence: str
) -> None:
    answer = create(admin, namespace, **spec)
    assert answer.status == 422
    assert field in answer.message
    assert sentence in answer.message


@pytest.mark.parametrize("text", ["1h30m", "90s", "1m1h", "500ms", "24h"])
def test_a_duration_is_the_gateway_apis(admin: Admin, namespace: str, text: str) -> None:
    answer = create(admin, namespace, rollout={"drainTimeout": text})
    assert answer.status == 201, answer.message


def test_a_field_that_does_not_exist_is_not_ignored(admin: Admin, namespace: str) -> None:
    answer = create(admin, namespace, engine={"tensorParallelism": 2})
    assert answer.status == 400
    assert 'unknown field "spec.engine.tensorParallelism"' in answer.message


@pytest.mark.parametrize("change", [{"storageClassName": "slow"}, {"accessMode": "ReadWriteMany"}])
def test_what_a_volume_cannot_change_is_the_volume_s_to_say(
    admin: Admin, namespace: str, change: dict[str, str]
) -> None:
    """A claim may never have come to be, or have been made otherwise than the spec once said."""
    cache = {"size": "5Gi", "storageClassName": "fast"}
    create(admin, namespace, model={"uri": "hf://o/n", "cache": cache})
    answer = admin.merge(
        path(namespace, "llama"), {"spec": {"model": {"cache": {**cache, **change}}}}
    )
    assert answer.status == 200, answer.message


def test_a_size_may_grow_be_taken_back_and_be_given_up(admin: Admin, namespace: str) -> None:
    create(admin, namespace, model={"uri": "hf://o/n", "cache": {"size": "5Gi"}})
    # Whether the claim can follow is the claim's to say: growth that its class refused is taken back.
    for cache in ({"size": "6Gi"}, {"size": "5Gi"}, None):
        answer = admin.merge(path(namespace, "llama"), {"spec": {"model": {"cache": cache}}})
        assert answer.status == 200, answer.message


@pytest.mark.parametrize(
    ("pods", "field"),
    [
        ({"labels": {"octavo.dev/llmdeployment": "other"}}, "spec.pods.labels"),
        ({"annotations": {"prometheus.io/port": "1"}}, "spec.pods.annotations"),
        ({"env": [{"name": "LD_PRELOAD", "value": "x.so"}]}, "spec.pods.env[0].name"),
    ],
)
def test_what_is_octavo_s_on_the_pods_is_refused(
    admin: Admin, namespace: str, pods: dict[str, Any], field: str
) -> None:
    answer = create(admin, namespace, pods=pods)
    assert answer.status == 422
    assert field in answer.message


def test_kubectl_scale_works_on_an_object_without_replicas(admin: Admin, namespace: str) -> None:
    create(admin, namespace)
    scaled = admin.merge(path(namespace, "llama") + "/scale", {"spec": {"replicas": 3}})
    assert scaled.status == 200, scaled.message
    assert (admin.get(path(namespace, "llama")) or {})["spec"]["replicas"] == 3


def test_kubectl_prints_what_matters(admin: Admin) -> None:
    found = admin.get(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/llmdeployments.octavo.dev"
    )
    assert found is not None
    names = found["spec"]["names"]
    assert (names["shortNames"], names["categories"]) == (["llmd"], ["all"])
    columns = found["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == [
        "Model",
        "Ready",
        "Status",
        "Queue",
        "URL",
        "Age",
    ]
    assert [column["name"] for column in columns if column.get("priority")] == [
        "GPUs",
        "Revision",
    ]


EXAMPLES = sorted((Path(__file__).parents[3] / "examples").rglob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_is_taken(admin: Admin, namespace: str, file: Path) -> None:
    """But for routes of the Gateway API, whose definition is not here: only where they lead is tested."""
    ingresses = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses"
    collections = {"LLMDeployment": path(namespace), "Ingress": ingresses}
    for body in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        if body["kind"] != "HTTPRoute":
            url = f"{collections[body['kind']]}?fieldValidation=Strict"
            answer = admin.request("POST", url, body)
            assert answer.status == 201, answer.message
