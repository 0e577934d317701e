"""Pure `spec → manifests`, one file per concern. No clock, no cluster, no randomness."""

from __future__ import annotations

from octavo_operator.manifest import CHILD_KINDS, Kind, Manifest, digest, kind_of
from octavo_operator.render.cache import model_cache
from octavo_operator.render.context import (
    Installation,
    Owner,
    RenderContext,
    Replacement,
    owner_of,
)
from octavo_operator.render.deployment import deployment
from octavo_operator.render.disruption_budget import disruption_budget
from octavo_operator.render.metadata import HASH_ANNOTATION
from octavo_operator.render.network_policy import network_policy
from octavo_operator.render.service import service
from octavo_operator.render.service_account import service_account

__all__ = [
    "Installation",
    "Owner",
    "RenderContext",
    "Replacement",
    "child_names",
    "owner_of",
    "render",
]


def render(context: RenderContext) -> list[Manifest]:
    """Every child that the spec asks for, in the order in which they are to be applied."""
    optional = [
        service_account(context),
        network_policy(context),
        model_cache(context),
        service(context),
        disruption_budget(context),
        deployment(context),
    ]
    manifests = [_hashed(manifest) for manifest in optional if manifest is not None]
    return sorted(manifests, key=lambda manifest: CHILD_KINDS.index(kind_of(manifest)))


def child_names(name: str) -> dict[Kind, str]:
    """The one name that a child of each kind has, or would have, for an LLMDeployment."""
    return {
        kind: f"{name}-models" if kind.kind == "PersistentVolumeClaim" else name
        for kind in CHILD_KINDS
    }


def _hashed(manifest: Manifest) -> Manifest:
    """With a hash of itself, by which a later pass sees that nothing of it changed."""
    manifest["metadata"]["annotations"] = {HASH_ANNOTATION: digest(manifest, 16)}
    return manifest
