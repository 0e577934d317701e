from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.children import CHILDREN
from octavo_operator.manifest import Manifest
from octavo_operator.names import HASH_ANNOTATION
from octavo_operator.render.download_progress import in_silence
from octavo_operator.render.listening import on_version_4
from octavo_operator.render.pod import pod_template, revision_of
from octavo_operator.render.service import url
from tests.support.operator.builders import INSTALLATION, KEY, UID, children, pod_context


def by_kind(**fields: Any) -> dict[str, Manifest]:
    return {child.key.kind.kind: child.manifest for child in children(**fields)}


def manifests(**fields: Any) -> list[Manifest]:
    return [child.manifest for child in children(**fields)]


def test_an_ordinary_spec_has_these_children() -> None:
    assert list(by_kind()) == [
        "ServiceAccount",
        "NetworkPolicy",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
    ]


def test_a_cache_adds_its_claim_before_the_pods() -> None:
    children = by_kind(
        model={"uri": "hf://o/n", "cache": {"size": "50Gi", "storageClassName": "fast"}}
    )
    assert list(children).index("PersistentVolumeClaim") < list(children).index("Deployment")
    claim = children["PersistentVolumeClaim"]
    assert claim["metadata"]["name"] == "llama-models"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "50Gi"}},
        "storageClassName": "fast",
    }
    volumes = children["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "models", "persistentVolumeClaim": {"claimName": "llama-models"}} in volumes


def test_every_child_is_owned_labelled_and_named_as_announced() -> None:
    names = {key.kind.kind: key.name_for(KEY.name) for key in reversed(CHILDREN)}
    made = by_kind(model={"uri": "hf://o/n", "cache": {"size": "5Gi"}})
    for kind, manifest in made.items():
        metadata = manifest["metadata"]
        assert metadata["name"] == names[kind]
        assert metadata["namespace"] == KEY.namespace
        assert metadata["labels"]["octavo.dev/llmdeployment"] == KEY.name
        (owner,) = metadata["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (UID, True)
    assert set(made) == set(names)


def test_the_service_shows_the_openai_port_alone() -> None:
    service = by_kind()["Service"]
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == [("http", 8000)]
    assert url(KEY) == "http://llama.team.svc:8000/v1"


AUTH = {"secretRef": {"name": "keys"}}


@pytest.mark.parametrize("type_", ["NodePort", "LoadBalancer"])
def test_a_service_that_leads_in_from_outside_is_let_through_the_fence(type_: str) -> None:
    annotations = {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"}
    made = by_kind(auth=AUTH, service={"type": type_, "annotations": annotations})
    service, within = made["Service"], by_kind(auth=AUTH)
    assert service["spec"]["type"] == type_
    assert annotations.items() <= service["metadata"]["annotations"].items()
    openai, ops = made["NetworkPolicy"]["spec"]["ingress"]
    assert openai == {"ports": [{"port": 8000, "protocol": "TCP"}]}
    assert ops == within["NetworkPolicy"]["spec"]["ingress"][1]
    assert made["Deployment"] == within["Deployment"], "no pod starts anew for its Service"


def test_annotations_of_the_service_are_part_of_its_hash() -> None:
    def hash_of(**fields: Any) -> str:
        found: str = by_kind(**fields)["Service"]["metadata"]["annotations"][HASH_ANNOTATION]
        return found

    assert hash_of(service={"annotations": {"a": "1"}}) != hash_of()
    assert hash_of(service={"annotations": {"a": "1"}}) != hash_of(
        service={"annotations": {"a": "2"}}
    )


def test_selectors_match_the_pods_and_hold_nothing_that_changes() -> None:
    children = by_kind()
    labels = children["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        children["Deployment"]["spec"]["selector"]["matchLabels"],
        children["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector == {"octavo.dev/llmdeployment": KEY.name}
        assert selector.items() <= labels.items()


def test_a_pod_with_a_copy_of_the_one_label_is_no_endpoint_and_stops_no_drain() -> None:
    """Service and budget ask for everything that the pods of every revision, and of every release, have."""
    children = by_kind()
    selector = children["Service"]["spec"]["selector"]
    labels = children["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert selector == {k: v for k, v in labels.items() if k != "octavo.dev/revision"}
    assert len(selector) == 6
    assert children["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == selector


@pytest.mark.parametrize(
    ("copied", "of_its_controller"),
    [
        ((), ("batch.kubernetes.io/controller-uid", "controller-uid", "job-name")),
        (("pod-template-hash",), ("batch.kubernetes.io/controller-uid",)),
        (("pod-template-hash",), ("controller-uid",)),  # before Kubernetes 1.27
        (("pod-template-hash",), ("controller-revision-hash", "pod-template-generation")),
    ],
)
def test_a_pod_of_another_controller_with_all_of_a_model_s_labels_stops_no_drain(
    copied: tuple[str, ...], of_its_controller: tuple[str, ...]
) -> None:
    """Kubernetes does not know how many of a Job's pods there should be, and would evict none at all."""
    children = by_kind()
    ours = children["Deployment"]["spec"]["template"]["metadata"]["labels"]
    budget = children["PodDisruptionBudget"]["spec"]["selector"]
    assert selects(budget, {**ours, "pod-template-hash": "1"})
    assert not selects(budget, ours | dict.fromkeys((*copied, *of_its_controller), "x"))


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    has = {"Exists": True, "DoesNotExist": False}
    return selector["matchLabels"].items() <= labels.items() and all(
        (each["key"] in labels) is has[each["operator"]] for each in selector["matchExpressions"]
    )


def test_the_ops_port_is_open_to_monitoring_and_the_operator_alone() -> None:
    openai, ops = by_kind()["NetworkPolicy"]["spec"]["ingress"]
    assert openai["ports"] == [{"port": 8000, "protocol": "TCP"}]
    assert ops["ports"] == [{"port": 8001, "protocol": "TCP"}]
    (source,) = ops["from"]
    (expression,) = source["namespaceSelector"]["matchExpressions"]
    assert expression["values"] == ["monitoring", "octavo-system"]


@pytest.mark.parametrize(
    ("uri", "ports"),
    [("builtin://demo", {53}), ("pvc://claim", {53}), ("hf://o/n", {53, 443})],
)
def test_pods_reach_out_no_farther_than_their_model_needs(uri: str, ports: set[int]) -> None:
    egress = by_kind(model={"uri": uri})["NetworkPolicy"]["spec"]["egress"]
    assert {port["port"] for rule in egress for port in rule["ports"]} == ports


@pytest.mark.parametrize(
    ("draft", "reached"), [("hf://o/d", {53, 443}), ("s3://bucket/d", {53, 1}), ("pvc://c", {53})]
)
def test_pods_reach_what_their_draft_needs(draft: str, reached: set[int]) -> None:
    engine = {"speculative": {"method": "draft_model", "model": {"uri": draft}}}
    egress = by_kind(engine=engine)["NetworkPolicy"]["spec"]["egress"]
    assert {port["port"] for rule in egress for port in rule["ports"]} == reached


def test_a_proxy_or_mirror_on_another_port_can_be_reached_where_the_installation_says_so() -> None:
    installation = replace(INSTALLATION, download_ports=(443, 3128))
    policy = by_kind(model={"uri": "hf://o/n"}, installation=installation)["NetworkPolicy"]
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 443, 3128}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "replicas": st.integers(0, 5),
            "engine": st.fixed_dictionaries({}, optional={"maxNumSeqs": st.integers(1, 64)}),
            "resources": st.fixed_dictionaries({}, optional={"gpu": st.integers(0, 1)}),
            "auth": st.just({"secretRef": {"name": "keys"}}),
        },
    )
)
def test_rendering_twice_gives_the_same_bytes(fields: dict[str, Any]) -> None:
    """An operator that restarts, or an upgrade that renders the same, must change nothing."""
    fields.pop("replicas", None)
    first, second = (json.dumps(manifests(**fields), sort_keys=True) for _ in range(2))
    assert first == second


def test_an_object_of_an_earlier_release_renders_as_it_did() -> None:
    """Another hash restarts the pods of every such object when the operator is upgraded: change it
    only together with a change that is worth that, and say so in the release."""
    written_then: dict[str, Any] = {
        "model": {"uri": "hf://org/name", "servedNames": ["a"], "secretRef": {"name": "token"}},
        "engine": {
            "maxModelLen": 4096,
            "maxNumSeqs": 32,
            "maxNumBatchedTokens": 512,
            "maxQueuedRequests": 99,
            "gpuMemoryUtilization": "0.85",
            "kvCacheMemory": "256Mi",
            "blockSize": 16,
            "dtype": "bfloat16",
            "loadFormat": "safetensors",
            "enforceEager": True,
            "seed": 7,
        },
        "resources": {"gpu": 1, "cpu": "8", "memory": "64Gi"},
    }
    made = [pod_context(**each) for each in ({}, written_then)]
    revisions = [revision_of(pod_template(in_silence(each) or on_version_4(each))) for each in made]
    assert revisions == ["f98e21a3c5", "dec561e8e9"], "every such pod would start anew"
    hashes = [
        hashlib.sha256(json.dumps(manifests(**fields), sort_keys=True).encode()).hexdigest()
        for fields in ({}, written_then)
    ]
    assert [digest[:12] for digest in hashes] == ["8d5ea7aedecb", "bf27d7880b43"]
