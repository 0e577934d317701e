"""Revisions: what starts a model's pods anew, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from octavo_operator.manifest_types import PodTemplateSpec
from octavo_operator.render.api_keys import in_environment
from octavo_operator.render.download_progress import in_silence
from octavo_operator.render.listening import on_version_4
from octavo_operator.render.pod import pod_template, revision_of
from tests.support.operator.builders import INSTALLATION, pod_context
from tests.support.operator.rendered_pods import containers


def test_the_revision_changes_with_what_the_pod_runs_and_with_nothing_else() -> None:
    def revision(**fields: Any) -> str:
        return revision_of(pod_template(pod_context(**fields)))

    base = revision()
    assert revision(replicas=7) == base  # spec.replicas
    assert revision(rollout={"strategy": "Recreate"}) == base
    assert revision(rollout={"progressDeadline": "45m"}) == base
    assert revision(autoscaling={"maxReplicas": 3}) == base
    assert revision(engine={"maxNumSeqs": 8}) != base
    assert revision(installation=replace(INSTALLATION, runtime_image="other:2")) != base


def test_a_model_that_stays_on_a_version_stays_through_an_upgrade_in_both_containers() -> None:
    def made(image: str) -> PodTemplateSpec:
        installation = replace(INSTALLATION, runtime_image=image)
        model = {"uri": "hf://o/n"}
        pinned = pod_context(model=model, runtime={"version": "1"}, installation=installation)
        return pod_template(pinned)

    before, after = made("registry.example/r:1"), made("registry.example/r:2")
    assert before == after
    images = {each["image"] for each in containers(dict(after["spec"]))}
    assert images == {"registry.example/r:1"}


OF_AN_EARLIER_RELEASE: dict[str, dict[str, Any]] = {
    "demo": {},
    "hub": {
        "model": {"uri": "hf://org/name@v1", "servedNames": ["a"], "secretRef": {"name": "token"}},
        "resources": {"gpu": 1, "cpu": 8, "memory": "64Gi"},
        "auth": {"secretRef": {"name": "keys", "key": "k"}},
    },
    "cache": {"model": {"uri": "s3://bucket/prefix", "cache": {"size": "50Gi"}}},
    "claim": {"model": {"uri": "pvc://weights/llama"}, "rollout": {"drainTimeout": "90s"}},
    "placed": {
        "scheduling": {
            "nodeSelector": {"gpu": "h100"},
            "tolerations": [
                {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
                {"key": "spot", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60},
            ],
            "runtimeClassName": "nvidia",
            "priorityClassName": "high",
        }
    },
    "engine": {
        "engine": {
            "device": "cpu",
            "kvCacheMemory": "256Mi",
            "kvCacheDtype": "fp8",
            "enablePrefixCaching": False,
            "quantization": "int4",
            "enforceEager": True,
            "seed": 7,
        }
    },
}


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        ("demo", "f98e21a3c5"),
        ("hub", "175261c085"),
        ("cache", "2bb0bd8870"),
        ("claim", "94c265f665"),
        ("placed", "4ee817bc15"),
        ("engine", "c3ca5f902e"),
    ],
)
def test_a_spec_of_an_earlier_release_keeps_its_revision(name: str, revision: str) -> None:
    """An upgrade of the operator that changes one of these starts every such pod anew."""
    made = pod_context(**OF_AN_EARLIER_RELEASE[name], is_claim_of_one_node=name == "claim")
    # What runs in the form of an earlier release is rendered in that form.
    made = in_environment(made) or in_silence(made) or on_version_4(made)
    assert revision_of(pod_template(made)) == revision
