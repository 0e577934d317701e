"""Rendering. Pure `spec → manifests` of what stands around the pods, and of the pods themselves, one file per
concern. What keeps the pods in numbers is a workload's business. No clock, no cluster, no randomness."""

from __future__ import annotations

from octavo_operator.manifest import Child, ChildKey
from octavo_operator.render import (
    cache,
    disruption_budget,
    network_policy,
    service,
    service_account,
)
from octavo_operator.render.context import (
    Installation,
    Owner,
    PodContext,
    RenderContext,
    Replacement,
    owner_of,
)

__all__ = [
    "SURROUNDINGS",
    "Installation",
    "Owner",
    "PodContext",
    "RenderContext",
    "Replacement",
    "owner_of",
    "surroundings",
]

SURROUNDINGS: tuple[ChildKey, ...] = (
    service_account.KEY,
    network_policy.KEY,
    *cache.KEYS,
    service.KEY,
    disruption_budget.KEY,
)
"""Every child around the pods that an LLMDeployment may own, in the order in which they are applied:
what a pod needs comes before the pods."""


def surroundings(context: RenderContext) -> list[Child]:
    """Those that the spec asks for, in the same order."""
    optional = (
        service_account.service_account(context),
        network_policy.network_policy(context),
        cache.model_cache(context),
        service.service(context),
        disruption_budget.disruption_budget(context),
    )
    return [child for child in optional if child is not None]
