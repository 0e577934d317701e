"""LLMDeployment. Reads an LLMDeployment as kubectl returned it."""

from __future__ import annotations

import dataclasses

from e2e.lib.explain import explain
from e2e.lib.kubectl import Kubectl, Object
from e2e.lib.wait import wait_for


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    status: str
    reason: str
    message: str
    observed_generation: int
    last_transition_time: str

    @property
    def is_true(self) -> bool:
        return self.status == "True"

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"


ABSENT = Condition("Unknown", "", "the condition is not there", 0, "")


def condition(resource: Object | None, kind: str) -> Condition:
    """The condition of that type, or `ABSENT`."""
    for item in ((resource or {}).get("status") or {}).get("conditions", []):
        if item["type"] == kind:
            return Condition(
                item["status"],
                item.get("reason", ""),
                item.get("message", ""),
                item.get("observedGeneration", 0),
                item.get("lastTransitionTime", ""),
            )
    return ABSENT


def status(resource: Object | None, field: str) -> int:
    """A count in the status; 0 where it is not there yet."""
    return int(((resource or {}).get("status") or {}).get(field, 0) or 0)


def is_ready(resource: Object | None) -> bool:
    """Ready, and for the generation that stands in the spec, not for an earlier one."""
    ready = condition(resource, "Ready")
    return (
        resource is not None
        and ready.is_true
        and ready.observed_generation == resource["metadata"]["generation"]
    )


def wait_ready(kubectl: Kubectl, name: str, timeout_seconds: float = 120) -> Object:
    """Waits for Ready of the current generation; explains itself when it does not come."""
    wait_for(
        f"LLMDeployment {name} to be Ready",
        lambda: _readiness(kubectl.get("llmd", name)),
        lambda seen: seen.is_ready,
        timeout_seconds=timeout_seconds,
        explain=lambda: explain(kubectl, name),
    )
    return kubectl.must_get("llmd", name)


@dataclasses.dataclass(frozen=True, slots=True)
class _Readiness:
    is_ready: bool
    condition: Condition

    def __str__(self) -> str:
        return str(self.condition)


def _readiness(resource: Object | None) -> _Readiness:
    return _Readiness(is_ready(resource), condition(resource, "Ready"))


def model_pods(kubectl: Kubectl, name: str) -> list[Object]:
    """The pods of one LLMDeployment that are not on their way out."""
    pods = kubectl.list("pods", f"octavo.dev/llmdeployment={name}")
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def is_pod_ready(pod: Object) -> bool:
    return condition(pod, "Ready").is_true
