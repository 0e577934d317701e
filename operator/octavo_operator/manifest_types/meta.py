"""Names, labels and owners of objects, and how others select them."""

from __future__ import annotations

from typing import Literal, Required, TypedDict


class OwnerReference(TypedDict):
    """Who an object belongs to."""

    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool
    blockOwnerDeletion: bool


class ObjectMeta(TypedDict, total=False):
    """Name, labels and owners of an object, or of the pods of a template."""

    name: str
    namespace: str
    labels: Required[dict[str, str]]
    ownerReferences: list[OwnerReference]
    annotations: dict[str, str]


class LabelSelectorRequirement(TypedDict, total=False):
    """A label and the values that it may have; none where it is to exist, or not to."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str]


class LabelSelector(TypedDict, total=False):
    """Selects objects by label; empty, it selects all."""

    matchLabels: dict[str, str]
    matchExpressions: list[LabelSelectorRequirement]


class LocalObjectReference(TypedDict):
    """An object of the same namespace."""

    name: str
