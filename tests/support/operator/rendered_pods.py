"""Pods as they are rendered for a spec, as plain JSON."""

from __future__ import annotations

from typing import Any

from octavo_operator.render.pod import pod_template
from tests.support.operator.builders import pod_context


def pod_spec(**fields: Any) -> dict[str, Any]:
    spec: dict[str, Any] = dict(pod_template(pod_context(**fields))["spec"])
    return spec


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


SOURCES = [
    {"uri": "builtin://demo"},
    {"uri": "hf://org/name", "secretRef": {"name": "token"}, "cache": {"size": "5Gi"}},
    {"uri": "s3://bucket/prefix"},
    {"uri": "pvc://claim/a/b"},
]
