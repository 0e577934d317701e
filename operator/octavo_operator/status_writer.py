"""Status writer: writes an object's status where it differs, and tells the news."""

from __future__ import annotations

from typing import Any

from octavo_operator import metrics
from octavo_operator.api import v1alpha1
from octavo_operator.condition_set import ConditionSet
from octavo_operator.kube import Kube
from octavo_operator.manifest import LLM_DEPLOYMENT, Manifest, key_of
from octavo_operator.recorder import Recorder

_IDENTITY = ("name", "namespace", "uid", "resourceVersion")


class StatusWriter:
    """Writes to the API server, to the metrics and, of what changed, to the recorder."""

    def __init__(self, kube: Kube, recorder: Recorder) -> None:
        self._kube = kube
        self._recorder = recorder

    async def write(
        self, resource: Manifest, status: dict[str, Any], conditions: ConditionSet
    ) -> None:
        """Raises KubeError."""
        metrics.set_conditions(key_of(resource), status["conditions"])
        if resource.get("status", {}) == status:
            return
        metadata = resource["metadata"]
        manifest = {
            "apiVersion": v1alpha1.API_VERSION,
            "kind": v1alpha1.KIND,
            # A status must not land on an object that took the same name since.
            "metadata": {key: metadata[key] for key in _IDENTITY},
            "status": status,
        }
        if await self._kube.apply_status(LLM_DEPLOYMENT, manifest) is None:
            return  # gone, or another object by now, whose own event brings us back
        await self._recorder.transitions(resource, conditions.transitions)
