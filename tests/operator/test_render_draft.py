"""Pods of a model for which another guesses: where the draft comes from, and what sees its credentials."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.operator.builders import KEY
from tests.support.operator.rendered_pods import SOURCES, pod_spec

DRAFT = {"uri": "hf://org/draft", "secretRef": {"name": "of-draft"}}


def guessing(draft: dict[str, Any], **fields: Any) -> dict[str, Any]:
    speculative = {"method": "draft_model", "numSpeculativeTokens": 3, "model": draft}
    return pod_spec(engine={"speculative": speculative}, **fields)


def told_to_guess_with(serve: dict[str, Any]) -> object:
    return json.loads(serve["args"][serve["args"].index("--speculative-config") + 1])["model"]


def test_a_draft_is_fetched_after_the_model_into_the_same_cache_with_credentials_of_its_own() -> (
    None
):
    download = {"ephemeralStorage": "9Gi"}
    spec = guessing(DRAFT, model=SOURCES[1], resources={"download": download})
    (first, second), (serve,) = spec["initContainers"], spec["containers"]
    assert [first["args"][1], second["args"][1]] == ["hf://org/name", "hf://org/draft"]
    assert first["args"][2:] == second["args"][2:]
    assert [each["envFrom"] for each in (first, second)] == [
        [{"secretRef": {"name": name}}] for name in ("token", "of-draft")
    ]
    same = ("volumeMounts", "resources", "env", "securityContext")
    assert [first[key] for key in same] == [second[key] for key in same]
    assert first["resources"]["limits"] == {"ephemeral-storage": "9Gi"}
    assert told_to_guess_with(serve) == "hf://org/draft"
    assert "of-draft" not in str(serve)
    assert [each for each in spec["volumes"] if each["name"] == "models"] == [
        {"name": "models", "persistentVolumeClaim": {"claimName": f"{KEY.name}-models"}}
    ]


def test_a_draft_alone_is_fetched_and_read_as_a_model_would_be() -> None:
    claim = {"uri": "pvc://claim/a"}
    spec = guessing({"uri": "s3://bucket/draft"}, model={**claim, "cache": {"size": "1Gi"}})
    (fetch,), (serve,) = spec["initContainers"], spec["containers"]
    assert fetch["name"] == "fetch-draft"
    assert "envFrom" not in fetch
    folder = fetch["args"][fetch["args"].index("--to") + 1]
    assert serve["args"][:4] == ["serve", "/claim/a", "--download-dir", folder]
    assert {"name": "models", "mountPath": folder, "readOnly": True} in serve["volumeMounts"]
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in serve["env"]
    assert "podAffinity" in spec["affinity"]
    inherited = guessing({"uri": "hf://org/draft"}, model=SOURCES[1])["initContainers"][1]
    assert inherited["envFrom"] == [{"secretRef": {"name": "token"}}]
    elsewhere = guessing({"uri": "s3://bucket/draft"}, model=SOURCES[1])["initContainers"][1]
    assert "envFrom" not in elsewhere


@pytest.mark.parametrize(
    ("draft", "folder", "claims"),
    [
        ("pvc://claim/b", "/claim/b", {"claim": "claim"}),
        ("pvc://other", "/draft-claim", {"claim": "claim", "other": "draft-claim"}),
    ],
)
def test_the_claim_of_a_draft_is_mounted_once_and_read_only(
    draft: str, folder: str, claims: dict[str, str]
) -> None:
    spec = guessing({"uri": draft}, model={"uri": "pvc://claim/a"})
    (serve,) = spec["containers"]
    assert told_to_guess_with(serve) == folder
    mounted = {
        each["persistentVolumeClaim"]["claimName"]: each["name"]
        for each in spec["volumes"]
        if each.get("persistentVolumeClaim", {}).get("readOnly")
    }
    assert mounted == claims
    for name in claims.values():
        assert {"name": name, "mountPath": f"/{name}", "readOnly": True} in serve["volumeMounts"]
    assert "initContainers" not in spec
