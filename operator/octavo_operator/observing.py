"""Observing: what the cluster holds of one object when a pass begins, all of it read live."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.children import CHILDREN
from octavo_operator.endpoints import SERVICE_NAME_LABEL
from octavo_operator.kube import Kube, KubeError
from octavo_operator.manifest import (
    ENDPOINT_SLICE,
    EVENT,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    ChildKey,
    Manifest,
    ObjectKey,
    key_of,
)
from octavo_operator.names import selector
from octavo_operator.render import service
from octavo_operator.workload import Workload, workload_of


@dataclass(frozen=True, slots=True)
class Observed:
    """What the cluster held when the pass began."""

    resource: Manifest
    children: dict[ChildKey, Manifest | None]
    pods: list[Manifest]
    slices: list[Manifest]
    """The EndpointSlices of the Service."""
    claims: list[Manifest | None]
    """The user's claims that `pvc://` names, None where one is not there."""
    makers: Sequence[Manifest] | None
    """What makes the pods, where the workload says that some are refused; None where it may not be read."""
    refusals: Sequence[Manifest] | None
    """Events of what is refused; None where they may not be read."""


async def observe(kube: Kube, resource: Manifest, spec: LLMDeploymentSpec) -> Observed:
    """Raises KubeError."""
    key, workload = key_of(resource), workload_of(spec)
    pods, children, slices, claims = await asyncio.gather(
        kube.list(POD, key.namespace, selector(key.name)),
        asyncio.gather(
            *(kube.get(child.kind, key.namespace, child.name_for(key.name)) for child in CHILDREN)
        ),
        kube.list(
            ENDPOINT_SLICE, key.namespace, {SERVICE_NAME_LABEL: service.KEY.name_for(key.name)}
        ),
        asyncio.gather(
            *(kube.get(PERSISTENT_VOLUME_CLAIM, key.namespace, name) for name in spec.claims)
        ),
    )
    by_key = dict(zip(CHILDREN, children, strict=True))
    live = by_key[workload.key]
    makers = await _makers(kube, key, workload, live)
    refusals = None if live is None else await _refusals(kube, workload.refused(live, makers))
    return Observed(resource, by_key, pods, slices, claims, makers, refusals)


async def _makers(
    kube: Kube, key: ObjectKey, workload: Workload, live: Manifest | None
) -> Sequence[Manifest] | None:
    """Read after the workload, so that they know what it knows, and seldom: nobody follows them."""
    if live is None or not workload.is_refused(live):
        return ()
    try:
        return await kube.list(workload.makers, key.namespace, selector(key.name))
    except KubeError as error:
        if error.is_forbidden:
            return None
        raise


async def _refusals(kube: Kube, refused: Sequence[Manifest]) -> Sequence[Manifest] | None:
    """By field, so that a namespace's other Events do not travel."""
    try:
        lists = await asyncio.gather(
            *(
                kube.list(
                    EVENT,
                    each["metadata"]["namespace"],
                    fields={"involvedObject.uid": each["metadata"]["uid"]},
                )
                for each in refused
            )
        )
    except KubeError as error:
        if error.is_forbidden:
            return None
        raise
    return [event for events in lists for event in events]
