"""Names, labels and owner references: the same on every child."""

from __future__ import annotations

from collections.abc import Mapping

from octavo_operator.api import v1alpha1
from octavo_operator.manifest import Child, ChildKey, Manifest, controller_of, digest
from octavo_operator.manifest_types import ObjectMeta, OwnerReference
from octavo_operator.names import HASH_ANNOTATION, OWNER_LABEL, labels
from octavo_operator.render.context import Owner


def child(
    owner: Owner, key: ChildKey, *, annotations: Mapping[str, str] | None = None, **content: object
) -> Child:
    """A manifest with metadata in place; `content` is its spec, or other top-level keys.

    It carries a hash of itself, by which a later pass sees that nothing of it changed.
    """
    metadata: ObjectMeta = {
        "name": key.name_for(owner.name),
        "namespace": owner.key.namespace,
        "labels": {**owner.labels, **labels(owner.name)},
        "ownerReferences": [owner_reference(owner)],
    }
    manifest: Manifest = {
        "apiVersion": key.kind.api_version,
        "kind": key.kind.kind,
        "metadata": metadata,
        **content,
    }
    if annotations:
        metadata["annotations"] = dict(annotations)  # within the hash
    metadata["annotations"] = {**(annotations or {}), HASH_ANNOTATION: digest(manifest, 16)}
    return Child(key, manifest)


def owner_reference(owner: Owner) -> OwnerReference:
    """Garbage collection by Kubernetes: no finalizer, so deleting works while the operator is down."""
    return {
        "apiVersion": v1alpha1.API_VERSION,
        "kind": v1alpha1.KIND,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_orphan(live: Manifest, owner: Owner) -> bool:
    """Whether it was made for an LLMDeployment of this name and nobody controls it now: what stays
    when one is deleted with `--cascade=orphan`, or an owner reference was lost."""
    metadata = live["metadata"]
    return (
        controller_of(live) is None
        and metadata.get("labels", {}).get(OWNER_LABEL) == owner.name
        and HASH_ANNOTATION in metadata.get("annotations", {})
    )
