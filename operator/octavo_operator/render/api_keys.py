"""API keys of the pods: a Secret as files, which the kubelet keeps fresh under a running pod and the server
reads anew, so that a rotation starts no pod and finds no pod behind the others for long.

The first release gave the key by the environment, where a pod keeps the one of its start. Templates of that
form stay as they are until something else in them changes (`workload/in_force.py`).
"""

from __future__ import annotations

from dataclasses import replace

from octavo_operator.api.v1alpha1 import AuthSpec
from octavo_operator.manifest_types import (
    EnvVar,
    EnvVarSource,
    SecretVolumeSource,
    Volume,
    VolumeMount,
)
from octavo_operator.render.context import PodContext
from octavo_operator.render.listening import on_version_4

KEYS_PATH = "/etc/octavo/api-keys"
_VOLUME = "api-keys"
_MODE = 0o440
"""The files are root's and of the pod's group."""

ENVIRONMENT_REMARK = (
    "the API key is that of each pod's start: a rotated one reaches them with the next rollout"
)


def arguments(context: PodContext) -> list[str]:
    """The flags of `octavo serve`."""
    return ["--api-key-file", KEYS_PATH] if _are_mounted(context) else []


def mounts(context: PodContext) -> list[VolumeMount]:
    """Of the serving container. A folder: a single file (`subPath`) would never change."""
    if not _are_mounted(context):
        return []
    return [{"name": _VOLUME, "mountPath": KEYS_PATH, "readOnly": True}]


def volumes(context: PodContext) -> list[Volume]:
    """A Secret that is missing holds the pod up: without its keys the port would be shut or open."""
    auth = context.spec.auth
    if auth is None or not _are_mounted(context):
        return []
    return [{"name": _VOLUME, "secret": _source(auth)}]


def variables(context: PodContext) -> list[EnvVar]:
    """As the first release gave the key."""
    auth = context.spec.auth
    if auth is None or auth.secret_ref is None or not context.has_keys_in_environment:
        return []
    source: EnvVarSource = {
        "secretKeyRef": {"name": auth.secret_ref.name, "key": auth.secret_ref.key}
    }
    return [{"name": "OCTAVO_API_KEY", "valueFrom": source}]


def in_environment(context: PodContext) -> PodContext | None:
    """The same pods in the form of the first release; None where it knew nothing of the kind."""
    auth = context.spec.auth
    if auth is None or auth.secret_ref is None:
        return None
    return replace(on_version_4(context), has_keys_in_environment=True, has_silent_download=True)


def _are_mounted(context: PodContext) -> bool:
    return context.spec.auth is not None and not context.has_keys_in_environment


def _source(auth: AuthSpec) -> SecretVolumeSource:
    if auth.keys_from is not None:
        return {"secretName": auth.keys_from.secret_ref.name, "defaultMode": _MODE}
    if auth.secret_ref is None:
        raise ValueError("spec.auth names no Secret")
    reference = auth.secret_ref
    return {
        "secretName": reference.name,
        # What else the Secret holds is not the pod's to see, nor a key. The server reads no hidden files.
        "items": [{"key": reference.key, "path": reference.key.removeprefix(".")}],
        "defaultMode": _MODE,
    }
