"""Model cache. Where models lie in the cluster: the model cache, one volume for all replicas and all pods to
come, and what a claim says about the nodes that can mount it.

The cache's claim has two names to choose from. A claim that is being deleted stays as long as pods mount it,
and no new pod may mount it: the pods move to a claim of the other name, as one by one they would to any new
revision, and when the last has left it the old one goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from octavo_operator.api.quantity import parse_quantity
from octavo_operator.api.v1alpha1.model import CacheSpec
from octavo_operator.manifest import (
    FIELD_MANAGER,
    PERSISTENT_VOLUME_CLAIM,
    Child,
    ChildKey,
    Manifest,
    is_owned_by,
)
from octavo_operator.manifest_types import PersistentVolumeClaimSpec
from octavo_operator.names import HASH_ANNOTATION
from octavo_operator.render.context import Owner, RenderContext
from octavo_operator.render.metadata import child, is_orphan

KEY = ChildKey(PERSISTENT_VOLUME_CLAIM, "models")
OTHER_KEY = ChildKey(PERSISTENT_VOLUME_CLAIM, "models-2")
KEYS = (KEY, OTHER_KEY)


def is_of_one_node(live: Manifest | None) -> bool:
    """Whether only one node at a time can mount this claim. One that does not exist yet counts as
    such, because most are: when it appears, the pods that wait for it need not be made anew."""
    if live is None:
        return True
    modes = set(live["spec"].get("accessModes", ()))
    return not modes & {"ReadWriteMany", "ReadOnlyMany"}


def key_in_use(
    children: Mapping[ChildKey, Manifest | None], wanted: CacheSpec | None, owner: Owner
) -> ChildKey:
    """Which of the two names the cache's claim has, or is to have: that of a claim that pods can mount,
    else one that was ours and is nobody's, else the first that is free. What is somebody else's stands where
    it stands."""
    standing = {key: live for key in KEYS if (live := children.get(key)) is not None}
    ours = {key: live for key, live in standing.items() if is_owned_by(live, owner.uid)}
    orphans = {key: live for key, live in standing.items() if is_orphan(live, owner)}
    candidates = (*ours.items(), *orphans.items())
    usable = (key for key, live in candidates if _is_usable(key, live, wanted, owner))
    if (found := next(usable, None)) is not None:
        return found
    is_other_free = children.get(OTHER_KEY) is None
    return OTHER_KEY if KEY in ours and is_other_free else KEY


def misfit(live: Manifest | None, wanted: CacheSpec | None) -> str | None:
    """What the spec asks for that the live claim has otherwise and cannot change; None when all is
    well. What the spec leaves out is as the claim has it."""
    if live is None or wanted is None:
        return None
    name, has = live["metadata"]["name"], live["spec"]
    class_name = has.get("storageClassName")
    if (
        None not in (wanted.storage_class_name, class_name)
        and wanted.storage_class_name != class_name
    ):
        return (
            f"spec.model.cache.storageClassName is {wanted.storage_class_name or 'empty'}, but claim {name} "
            f"has {class_name or 'none'}"
        )
    modes = has.get("accessModes", [])
    if wanted.access_mode.value not in modes:
        return (
            f"spec.model.cache.accessMode is {wanted.access_mode.value}, but claim {name} has "
            f"{', '.join(modes)}"
        )
    size = held(live)
    is_less = bool(size) and parse_quantity(wanted.size) < parse_quantity(size)
    if is_less and _asked_bytes(live) > parse_quantity(wanted.size) and not _is_sized(live):
        return f"spec.model.cache.size is {wanted.size}, but claim {name} has {size}"
    return None


def asked(claim: Manifest) -> str:
    """The size that a claim asks for."""
    size: str = claim["spec"]["resources"]["requests"]["storage"]
    return size


def _asked_bytes(claim: Manifest) -> Decimal:
    return parse_quantity(asked(claim))


def held(live: Manifest) -> str:
    """The size that its volume has; empty while there is none."""
    size: str = live.get("status", {}).get("capacity", {}).get("storage", "")
    return size


def model_cache(context: RenderContext) -> Child | None:
    """The claim, or None where the spec asks for no cache."""
    cache = context.spec.model.cache
    return None if cache is None else _claim(context.owner, context.pods.cache_key or KEY, cache)


def _claim(owner: Owner, key: ChildKey, cache: CacheSpec) -> Child:
    spec: PersistentVolumeClaimSpec = {
        "accessModes": [cache.access_mode.value],
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class_name is not None:
        spec["storageClassName"] = cache.storage_class_name
    return child(owner, key, spec=spec)


def as_it_can_be(live: Manifest, manifest: Manifest) -> Manifest:
    """The claim with what the live one has and cannot change, and with the size that somebody else gave
    to it, where that is more: a volume that grew does not shrink. A size that only we asked for can be
    taken back while it is not there, to anything above what is."""
    spec = {**manifest["spec"]}
    for field in ("accessModes", "storageClassName"):
        if live["spec"].get(field) is not None:
            spec[field] = live["spec"][field]
    size = live["spec"]["resources"]["requests"]["storage"]
    requests = spec["resources"]["requests"]
    wanted = parse_quantity(requests["storage"])
    is_there = wanted <= parse_quantity(held(live) or "0")
    if (_is_sized(live) or is_there) and _asked_bytes(live) > wanted:
        spec["resources"] = {**spec["resources"], "requests": {**requests, "storage": size}}
    return {**manifest, "spec": spec}


def _is_usable(key: ChildKey, live: Manifest, wanted: CacheSpec | None, owner: Owner) -> bool:
    """A claim that is not bound holds nothing yet and cannot change: one that fits takes its place, unless it
    is what the cluster's admission makes of that."""
    if "deletionTimestamp" in live["metadata"]:
        return False
    if wanted is None or live.get("status", {}).get("phase") == "Bound":
        return True
    applied = live["metadata"].get("annotations", {}).get(HASH_ANNOTATION)
    if applied == _claim(owner, key, wanted).manifest["metadata"]["annotations"][HASH_ANNOTATION]:
        return True
    return misfit(live, wanted) is None and _asked_bytes(live) == parse_quantity(wanted.size)


def _is_sized(live: Manifest) -> bool:
    """Whether somebody but us asks for a size."""
    return any(_sizes(entry) for entry in live["metadata"].get("managedFields", ()))


def _sizes(entry: Manifest) -> bool:
    if entry.get("manager") == FIELD_MANAGER or entry.get("subresource"):
        return False
    resources = entry.get("fieldsV1", {}).get("f:spec", {}).get("f:resources", {})
    return "f:storage" in resources.get("f:requests", {})
