"""Names, labels and owner references: the same on every child."""

from __future__ import annotations

from octavo_operator.api import v1alpha1
from octavo_operator.manifest import Kind, Manifest
from octavo_operator.render.context import Owner, RenderContext

OWNER_LABEL = "octavo.dev/llmdeployment"
REVISION_LABEL = "octavo.dev/revision"
HASH_ANNOTATION = "octavo.dev/manifest-hash"

CONTAINER = "octavo"
HTTP_PORT = 8000
OPS_PORT = 8001


def selector(name: str) -> dict[str, str]:
    """The labels that select the pods of an LLMDeployment."""
    return {OWNER_LABEL: name}


def labels(name: str) -> dict[str, str]:
    """The labels of every child. They hold no version: an operator upgrade must not roll pods."""
    return {
        "app.kubernetes.io/name": "octavo",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/managed-by": "octavo-operator",
        "app.kubernetes.io/part-of": "octavo",
        OWNER_LABEL: name,
    }


def child(context: RenderContext, kind: Kind, name: str, **content: object) -> Manifest:
    """A manifest of this kind with metadata in place; `content` is spec, or other top-level keys."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": context.namespace,
            "labels": labels(context.name),
            "ownerReferences": [owner_reference(context.owner)],
        },
        **content,
    }


def owner_reference(owner: Owner) -> dict[str, object]:
    """Garbage collection by Kubernetes: no finalizer, so deleting works while the operator is down."""
    return {
        "apiVersion": v1alpha1.API_VERSION,
        "kind": v1alpha1.KIND,
        "name": owner.key.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
