"""Model cache. Where models lie in the cluster: the model cache, one volume for all replicas and all pods to
come, and what a claim of the user's own says about the nodes that can mount it."""

from __future__ import annotations

from octavo_operator.api.quantity import parse_quantity
from octavo_operator.manifest import (
    FIELD_MANAGER,
    PERSISTENT_VOLUME_CLAIM,
    Child,
    ChildKey,
    Manifest,
)
from octavo_operator.manifest_types import PersistentVolumeClaimSpec
from octavo_operator.render.context import RenderContext
from octavo_operator.render.metadata import child

KEY = ChildKey(PERSISTENT_VOLUME_CLAIM, "models")


def is_of_one_node(live: Manifest | None) -> bool:
    """Whether only one node at a time can mount this claim. One that does not exist yet counts as
    such, because most are: when it appears, the pods that wait for it need not be made anew."""
    if live is None:
        return True
    modes = set(live["spec"].get("accessModes", ()))
    return not modes & {"ReadWriteMany", "ReadOnlyMany"}


def model_cache(context: RenderContext) -> Child | None:
    """The claim, or None where the spec asks for no cache."""
    cache = context.spec.model.cache
    if cache is None:
        return None
    spec: PersistentVolumeClaimSpec = {
        "accessModes": [cache.access_mode.value],
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class_name:
        spec["storageClassName"] = cache.storage_class_name
    return child(context.owner, KEY, spec=spec)


def as_large_as(live: Manifest, manifest: Manifest) -> Manifest:
    """The claim with the size that somebody else gave to the live one, where that is more: a volume that
    grew does not shrink. A size that only we asked for can be taken back while it is not there."""
    if not any(_sizes(entry) for entry in live["metadata"].get("managedFields", ())):
        return manifest
    size = live["spec"]["resources"]["requests"]["storage"]
    spec = manifest["spec"]
    requests = spec["resources"]["requests"]
    if parse_quantity(size) <= parse_quantity(requests["storage"]):
        return manifest
    resources = {**spec["resources"], "requests": {**requests, "storage": size}}
    return {**manifest, "spec": {**spec, "resources": resources}}


def _sizes(entry: Manifest) -> bool:
    """Whether somebody but us asks for a size here."""
    if entry.get("manager") == FIELD_MANAGER or entry.get("subresource"):
        return False
    resources = entry.get("fieldsV1", {}).get("f:spec", {}).get("f:resources", {})
    return "f:storage" in resources.get("f:requests", {})
