"""How many pods a node drain may take at once."""

from __future__ import annotations

from octavo_operator.manifest import POD_DISRUPTION_BUDGET, Manifest
from octavo_operator.render.context import RenderContext
from octavo_operator.render.metadata import child, selector


def disruption_budget(context: RenderContext) -> Manifest:
    """One pod at a time. A budget that keeps a single replica would block drains for ever, so a
    single replica can be drained; pods that do not work never hold a drain up."""
    return child(
        context,
        POD_DISRUPTION_BUDGET,
        context.name,
        spec={
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(context.name)},
        },
    )
