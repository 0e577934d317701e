"""Volumes of a pod, and the claims behind them."""

from __future__ import annotations

from typing import Literal, Required, TypedDict


class EmptyDirVolumeSource(TypedDict, total=False):
    """A folder that lives as long as its pod."""

    medium: Literal["", "Memory"]
    sizeLimit: str


class PersistentVolumeClaimVolumeSource(TypedDict, total=False):
    """A claim of the pod's namespace."""

    claimName: Required[str]
    readOnly: bool


class KeyToPath(TypedDict):
    """A key of a Secret and the file that it becomes."""

    key: str
    path: str


class SecretVolumeSource(TypedDict, total=False):
    """The keys of a Secret as files: those of `items`, or all."""

    secretName: Required[str]
    items: list[KeyToPath]
    defaultMode: int


class Volume(TypedDict, total=False):
    """A volume of a pod: a name and one source."""

    name: Required[str]
    emptyDir: EmptyDirVolumeSource
    persistentVolumeClaim: PersistentVolumeClaimVolumeSource
    secret: SecretVolumeSource


class VolumeResourceRequirements(TypedDict):
    """How much a claim asks for."""

    requests: dict[str, str]


class PersistentVolumeClaimSpec(TypedDict, total=False):
    """A volume that is asked for."""

    accessModes: Required[list[str]]
    resources: Required[VolumeResourceRequirements]
    storageClassName: str
