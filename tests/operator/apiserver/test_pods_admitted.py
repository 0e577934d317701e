"""What the definition of LLMDeployments takes, pods take too: what one would refuse is not found out late."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.children import desired
from octavo_operator.manifest import ObjectKey
from octavo_operator.render import Owner, PodContext, RenderContext, Replacement
from octavo_operator.workload import workload_of
from tests.support.operator.admin import MINIMAL, Admin, Answer, path
from tests.support.operator.builders import INSTALLATION, UID

DRY_RUN = "dryRun=All&fieldValidation=Strict"

KEYS = [
    "team",
    "a",
    "A.b_c-d",
    "example.com/a",
    "a-b.c/A",
    "x" * 63,
    "x" * 64,
    "a." * 126 + "a/n",
    "a." * 127 + "a/n",
    "e" * 253 + "/" + "n" * 63,
    "e" * 254 + "/n",
    "a..b/n",
    "a.-b/n",
    "-a/n",
    "a-/n",
    "Upper.com/n",
    "a/b/c",
    "/n",
    "a/",
    "",
    "a b",
    "-a",
    "a-",
    "a.",
    "_a",
    "é",
    "a\n",
]
VALUES = ["", "a", "A.b_c", "x" * 63, "x" * 64, "-a", "a-", "a b", "a/b", "é", "a\n"]


def rendered(spec: dict[str, Any], namespace: str) -> list[dict[str, Any]]:
    parsed = LLMDeploymentSpec.model_validate(spec)
    pods = PodContext(Owner(ObjectKey(namespace, "llama"), UID), parsed, INSTALLATION)
    context = RenderContext(pods, 1, Replacement("RollingUpdate"))
    return [each.manifest for each in desired(context, workload_of(parsed))]


def taken(admin: Admin, namespace: str, spec: dict[str, Any]) -> Answer:
    body = {
        "apiVersion": "octavo.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": "llama"},
        "spec": spec,
    }
    return admin.request("POST", f"{path(namespace)}?{DRY_RUN}", body)


def collection(manifest: dict[str, Any]) -> str:
    version = manifest["apiVersion"]
    plural = manifest["kind"].lower()
    plural = plural[:-1] + "ies" if plural.endswith("y") else plural + "s"
    prefix = "/apis" if "/" in version else "/api"
    return f"{prefix}/{version}/namespaces/{manifest['metadata']['namespace']}/{plural}"


def refused_children(admin: Admin, namespace: str, spec: dict[str, Any]) -> list[str]:
    """What the API server says to the children that the spec asks for."""
    answers = [
        admin.request("POST", f"{collection(each)}?{DRY_RUN}", each)
        for each in rendered(spec, namespace)
    ]
    return [answer.message for answer in answers if answer.status != 201]


def deployment(admin: Admin, namespace: str, **pod: Any) -> Answer:
    """A Deployment of pods with this beside what it needs."""
    labels = {"app": "x"} | pod.pop("labels", {})
    metadata = {"labels": labels, "annotations": pod.pop("annotations", {})}
    spec = {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {
            "metadata": metadata,
            "spec": {"containers": [{"name": "c", "image": "i"}], **pod},
        },
    }
    url = f"/apis/apps/v1/namespaces/{namespace}/deployments?{DRY_RUN}"
    return admin.request("POST", url, {"metadata": {"name": "x"}, "spec": spec})


@pytest.mark.parametrize("key", KEYS)
def test_a_label_s_key_is_what_kubernetes_takes(admin: Admin, namespace: str, key: str) -> None:
    labels = {key: "x"}
    for field, pod in (
        ({"scheduling": {"nodeSelector": labels}}, {"nodeSelector": labels}),
        ({"pods": {"labels": labels}}, {"labels": labels}),
        (
            {"scheduling": {"tolerations": [{"key": key, "operator": "Exists"}]}},
            {"tolerations": [{"key": key, "operator": "Exists"}]},
        ),
    ):
        answer = taken(admin, namespace, MINIMAL | field)
        expected = deployment(admin, namespace, **pod)
        assert (answer.status == 201) is (expected.status == 201), (field, answer, expected.message)
        if answer.status == 201:
            assert refused_children(admin, namespace, MINIMAL | field) == []


@pytest.mark.parametrize("key", ["Example.COM/Some-Key", "A-b.c/d", "a.B/c", "A..b/c", "-A.b/c"])
def test_an_annotation_s_key_may_be_in_capitals_as_kubernetes_takes_it(
    admin: Admin, session_namespace: str, key: str
) -> None:
    annotations = {key: "Ünïcode ☸"}
    is_taken = deployment(admin, session_namespace, annotations=annotations).status == 201
    for field in (
        {"pods": {"annotations": annotations}},
        {"service": {"annotations": annotations}},
    ):
        answer = taken(admin, session_namespace, MINIMAL | field)
        assert (answer.status == 201) is is_taken, answer.message
        if is_taken:
            assert refused_children(admin, session_namespace, MINIMAL | field) == []


@pytest.mark.parametrize("size", [5 * 2**30, "5Gi", "5e9", "1.5Gi", 1, -1, "lots", 1.5])
def test_a_size_is_a_quantity_as_a_claim_takes_it(
    admin: Admin, session_namespace: str, size: object
) -> None:
    """But for less than a mebibyte."""
    claim = {
        "metadata": {"name": "x"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    }
    url = f"/api/v1/namespaces/{session_namespace}/persistentvolumeclaims?{DRY_RUN}"
    is_taken = admin.request("POST", url, claim).status == 201 and size not in (1, 1.5)
    spec: dict[str, Any] = {"model": {"uri": "hf://o/n", "cache": {"size": size}}}
    spec["engine"] = {"kvCacheMemory": size}
    answer = taken(admin, session_namespace, spec)
    assert (answer.status == 201) is is_taken, answer.message
    if is_taken:
        assert refused_children(admin, session_namespace, spec) == []


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [
        ("nvidia.com/gpu", True),
        ("nvidia.com/mig-1g.5gb", True),
        ("amd.com/gpu", True),
        ("gpu.intel.com/i915", True),
        ("e" * 244 + "/n", True),
        ("e" * 245 + "/n", False),
        ("nvidia.com/" + "g" * 64, False),
        ("nvidia..com/gpu", False),
        (".nvidia.com/gpu", False),
        ("nvidia.com/-gpu", False),
        ("requests.nvidia.com/gpu", False),
        ("kubernetes.io/gpu", False),
        ("node.kubernetes.io/gpu", False),
    ],
)
def test_a_gpu_is_a_resource_that_kubernetes_takes(
    admin: Admin, namespace: str, name: str, is_taken: bool
) -> None:
    spec = MINIMAL | {"resources": {"gpu": 1, "gpuResource": name}}
    answer = taken(admin, namespace, spec)
    assert (answer.status == 201) is is_taken, answer.message
    if is_taken:
        assert refused_children(admin, namespace, spec) == []


@pytest.mark.parametrize("key", ["a", "api-key", ".a", "A_b.c", ".", "..", "..a", "a/b", "x" * 254])
def test_a_secret_s_key_is_what_kubernetes_takes(admin: Admin, namespace: str, key: str) -> None:
    spec = MINIMAL | {"auth": {"secretRef": {"name": "keys", "key": key}}}
    source = {"secretName": "keys", "items": [{"key": key, "path": key}]}
    answer = taken(admin, namespace, spec)
    expected = deployment(admin, namespace, volumes=[{"name": "v", "secret": source}])
    is_secrets = admin.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/secrets?{DRY_RUN}",
        {"metadata": {"name": "keys"}, "stringData": {key: "x"}},
    )
    both = expected.status == 201 and is_secrets.status == 201
    assert (answer.status == 201) is both, (answer, expected.message, is_secrets.message)


words = st.text(st.sampled_from(string.ascii_lowercase + "A-_./é0"), max_size=12)
keys = st.sampled_from(KEYS) | words
values = st.sampled_from(VALUES) | words
quantities = st.sampled_from(["1", "500m", "100m", "2", "0.5", "2e3", "1Gi", "512Mi", "1500M"])
names = st.sampled_from(["a", "a.b", "a..b", "a-", "fast"]) | words


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the fields, or none."""
    return st.fixed_dictionaries({}, optional=fields)


specs = st.fixed_dictionaries(
    {
        "model": st.sampled_from(
            [
                {"uri": "builtin://demo"},
                {"uri": "hf://o/n", "secretRef": {"name": "t"}},
                {"uri": "hf://o/n", "cache": {"size": "5Gi"}},
                {"uri": "pvc://weights/llama"},
            ]
        )
    },
    optional={
        "resources": some(
            gpu=st.integers(0, 1),
            gpuResource=st.sampled_from(["amd.com/gpu", "requests.a/b", "a.kubernetes.io/c"]),
            cpu=quantities,
            cpuLimit=quantities,
            memory=quantities,
            ephemeralStorage=quantities,
            download=some(cpu=quantities, memory=quantities, ephemeralStorage=quantities),
        ),
        "scheduling": some(
            nodeSelector=st.dictionaries(keys, values, max_size=2),
            tolerations=st.lists(
                some(
                    key=keys,
                    operator=st.sampled_from(["Exists", "Equal"]),
                    value=values,
                    effect=st.sampled_from(["NoSchedule", "NoExecute"]),
                    tolerationSeconds=st.integers(0, 9),
                ),
                max_size=2,
            ),
            runtimeClassName=names,
            priorityClassName=names,
        ),
        "pods": some(
            labels=st.dictionaries(keys, values, max_size=2),
            annotations=st.dictionaries(keys, words, max_size=2),
            env=st.lists(
                st.fixed_dictionaries({"name": st.just("NCCL_DEBUG"), "value": words}), max_size=1
            ),
            imagePullSecrets=st.lists(st.fixed_dictionaries({"name": names}), max_size=2),
        ),
        "service": some(
            type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
            annotations=st.dictionaries(keys, words, max_size=2),
            # What it requires a cluster may not have.
            ipFamilyPolicy=st.sampled_from(["SingleStack", "PreferDualStack"]),
        ),
        "auth": st.sampled_from(
            [
                {"secretRef": {"name": "keys", "key": "._-A"}},
                {"keysFrom": {"secretRef": {"name": "a.b"}}},
            ]
        ),
        "server": some(
            allowedOrigins=st.just(["*", "chrome-extension://a", "https://[::1]:65535/"]),
            allowedHosts=st.just(["*", "*.a_b.", "1:2:3:4:5:6:7::", "[::1]"]),
            publicMetrics=st.booleans(),
            apiServerCount=st.sampled_from([1, 64]),
        ),
        "runtime": st.sampled_from([{"version": "_.-"}, {"version": f"sha256:{'0a' * 32}"}]),
        "extraArgs": st.lists(
            st.sampled_from(["--no-ui", "--a=$(HOME) é\t'\"", f"--b={'x' * 1020}", "--log-level="]),
            max_size=3,
        ),
        "replicas": st.sampled_from([0, 1000]),
        "autoscaling": st.fixed_dictionaries(
            {"maxReplicas": st.sampled_from([1, 1000])},
            optional={"minReplicas": st.sampled_from([1, 1000])},
        ),
        "rollout": some(
            drainTimeout=st.sampled_from(["0s", "1ms", "24h"]),
            progressDeadline=st.sampled_from(["30s", "24h"]),
        ),
    },
)


@given(specs)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_children_of_whatever_is_taken_are_taken(
    admin: Admin, session_namespace: str, spec: dict[str, Any]
) -> None:
    answer = taken(admin, session_namespace, spec)
    if answer.status != 201:
        assert answer.status == 422, answer.message
        return
    try:
        assert refused_children(admin, session_namespace, answer.body["spec"]) == []
    except ValidationError as error:
        raise AssertionError(f"the operator cannot read what the schema took: {error}") from error


def test_what_gpus_that_share_a_model_need_is_what_kubernetes_takes(
    admin: Admin, namespace: str
) -> None:
    spec = MINIMAL | {"resources": {"gpu": 4, "memory": "64Gi"}}
    assert taken(admin, namespace, spec).status == 201
    assert refused_children(admin, namespace, spec) == []
