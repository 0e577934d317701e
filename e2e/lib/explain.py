"""Explanation. Why something is amiss: conditions, pods, Events and the last lines of the logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from e2e.lib.kubectl import Kubectl, Object
from host.errors import CommandError

LOG_LINES = 30
_Reader: TypeAlias = Callable[[], str]


def explain(kubectl: Kubectl, name: str, operator_namespace: str = "octavo-system") -> str:
    """Everything that explains the state of one LLMDeployment, in the order in which one reads it."""
    parts = [
        _section(f"conditions of {name}", lambda: _conditions(kubectl.get("llmd", name))),
        _section(f"pods in {kubectl.namespace}", lambda: _pods(kubectl.list("pods"))),
        _section(f"Events in {kubectl.namespace}", lambda: _events(kubectl.list("events"))),
    ]
    parts.append(_section("model logs", lambda: _logs(kubectl, name)))
    operator = "--selector=app.kubernetes.io/component=operator"
    parts.append(
        _section(
            "operator log",
            lambda: kubectl.within(operator_namespace).run("logs", operator, f"--tail={LOG_LINES}"),
        )
    )
    return "\n".join(parts)


def _section(title: str, read: _Reader) -> str:
    try:
        text = read().strip() or "(none)"
    except CommandError as failed:
        text = f"({failed})"
    return f"--- {title}\n{text}"


def _conditions(resource: Object | None) -> str:
    if resource is None:
        return "(no such LLMDeployment)"
    rows = (resource.get("status") or {}).get("conditions", [])
    return "\n".join(
        f"{row['type']:16}{row['status']:9}{row.get('reason', '')}: {row.get('message', '')}"
        for row in rows
    )


def _pods(pods: list[Object]) -> str:
    return "\n".join(f"{pod['metadata']['name']}  {_pod_state(pod)}" for pod in pods)


def _pod_state(pod: Object) -> str:
    status = pod.get("status", {})
    words = [status.get("phase", "?")]
    words += [
        f"{row['type']}={row['status']} ({row['message']})"
        for row in status.get("conditions", [])
        if row["status"] != "True" and row.get("message")
    ]
    containers = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
    for container in containers:
        for state, detail in container.get("state", {}).items():
            reason = detail.get("reason", "") if detail else ""
            message = detail.get("message", "") if detail else ""
            words.append(
                f"{container['name']}:{state} {reason} {message} restarts={container['restartCount']}"
            )
    return "; ".join(words)


def _logs(kubectl: Kubectl, name: str) -> str:
    """The last lines of each container that has run, of the run before where it waits to run again."""
    parts = []
    for pod in kubectl.list("pods", f"octavo.dev/llmdeployment={name}"):
        status = pod.get("status", {})
        for container in status.get("initContainerStatuses", []) + status.get(
            "containerStatuses", []
        ):
            state = container.get("state", {})
            if "waiting" in state and not container["restartCount"]:
                continue
            flags = [f"--container={container['name']}", f"--tail={LOG_LINES}"]
            if "waiting" in state:
                flags.append("--previous")
            title = f"[{pod['metadata']['name']}/{container['name']}]"
            try:
                text = kubectl.run("logs", pod["metadata"]["name"], *flags)
            except CommandError as failed:
                text = f"({failed.answer.strip()})"
            parts.append(f"{title}\n{text.rstrip()}")
    return "\n".join(parts)


def _events(events: list[Object]) -> str:
    def when(event: Object) -> str:
        return str(
            event.get("lastTimestamp")
            or event.get("eventTime")
            or event["metadata"]["creationTimestamp"]
        )

    return "\n".join(
        f"{when(event)}  {event.get('type', ''):8}{event.get('reason', ''):24}"
        f"{event['involvedObject']['kind']}/{event['involvedObject']['name']}: "
        f"{str(event.get('message', '')).strip()}"
        for event in sorted(events, key=when)[-40:]
    )
