"""PodDisruptionBudget. How many pods a node drain may take at once."""

from __future__ import annotations

from octavo_operator.manifest import POD_DISRUPTION_BUDGET, Child, ChildKey
from octavo_operator.manifest_types import PodDisruptionBudgetSpec
from octavo_operator.names import labels
from octavo_operator.render.context import RenderContext
from octavo_operator.render.metadata import child

KEY = ChildKey(POD_DISRUPTION_BUDGET)


def disruption_budget(context: RenderContext) -> Child:
    """One pod at a time. A budget that keeps a single replica would block drains for ever, so a
    single replica can be drained; pods that do not work never hold a drain up."""
    spec: PodDisruptionBudgetSpec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        # A pod of somebody's Job among ours would stop every eviction: nobody knows how many of it there
        # should be.
        "selector": {
            "matchLabels": labels(context.name),
            "matchExpressions": list(context.own_labels),
        },
    }
    return child(context.owner, KEY, spec=spec)
