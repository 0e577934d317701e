"""The Deployment: one pod per replica."""

from __future__ import annotations

from typing import Any

from octavo_operator.api.quantity import duration_seconds
from octavo_operator.manifest import DEPLOYMENT, Manifest
from octavo_operator.render.context import RenderContext, Replacement
from octavo_operator.render.metadata import child, selector
from octavo_operator.render.pod import pod_template

_REVISION_HISTORY = 3


def deployment(context: RenderContext) -> Manifest:
    """`replicas` is always stated: an applied object that leaves it out would fall back to one."""
    return child(
        context,
        DEPLOYMENT,
        context.name,
        spec={
            "replicas": context.replicas,
            "revisionHistoryLimit": _REVISION_HISTORY,
            "progressDeadlineSeconds": duration_seconds(context.spec.rollout.progress_deadline),
            "selector": {"matchLabels": selector(context.name)},
            "strategy": _strategy(context.replacement),
            "template": pod_template(context),
        },
    )


def _strategy(replacement: Replacement) -> dict[str, Any]:
    if replacement.type == "Recreate":
        return {"type": "Recreate"}
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {
            "maxSurge": replacement.max_surge,
            "maxUnavailable": replacement.max_unavailable,
        },
    }
