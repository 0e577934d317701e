"""Refused pods: what it means that the API server does not let a workload's controller create one. Pure.

Quotas speak of resources and containers; who wrote an LLMDeployment knows fields. And a controller that was
refused waits longer each time, so that nothing happens for a while when there is room again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from octavo_operator.api.conditions import Reason
from octavo_operator.api.quantity import parse_quantity
from octavo_operator.findings import Finding, shortened
from octavo_operator.manifest import Manifest
from octavo_operator.names import SERVE_CONTAINER, STARTING_CONTAINERS

_LONGEST_BACKOFF_MINUTES = 17
"""1,000 seconds: what kube-controller-manager's queues wait at most before they try again."""
_VERDICT = re.compile(r"\bis forbidden\b|\bis invalid\b|\bdenied the request\b")
"""How the API server and admission webhooks refuse; what else comes back is a fault."""
_OUR_ACCOUNT = "error looking up service account"
"""Which is made anew at once when somebody took it away."""
# A hierarchical one of several namespaces says so between the two words.
_EXCEEDED_QUOTA = re.compile(r"\bexceeded (\w+ )?quota\b")
_UNSAID = "must specify "
_FIELDS = (
    ("cpu", "cpuLimit", "cpu"),
    ("memory", "memory", "memory"),
    ("ephemeral-storage", "ephemeralStorage", "ephemeralStorage"),
)
"""A resource, and the fields of `spec.resources` and of its `download` that give it a limit."""
_REQUESTS = {resource: serving.replace("Limit", "") for resource, serving, _ in _FIELDS}
_ABOVE_A_DEFAULT = re.compile(
    r"(?P<containers>containers|initContainers)\[\d+\]\.resources\.requests: [^,\]]*"
    rf" must be less than or equal to (?P<resource>{'|'.join(_REQUESTS)}) limit"
)
"""The API server of a request above the limit that a LimitRange gave, because the spec has none."""
_OUT_OF_RANGE = re.compile(
    r"(?:maximum|minimum) (?P<resource>\S+) usage per \w+ is [^,]+?"
    r"(?:, but (?P<what>limit|request) is (?P<value>[^\s,\]]+)|\.\s+No (?P<missing>limit|request) is)"
)
_OUT_OF_RATIO = re.compile(
    r"(?P<resource>\S+) max limit to request ratio per \w+ is (?P<most>[^\s,]+), but"
)
"""A LimitRange, which names no container."""


def is_of_quota(message: str) -> bool:
    """Whether room is missing that the namespace has not got."""
    return _EXCEEDED_QUOTA.search(message) is not None


def explain(
    message: str, since: datetime | None, restart: str, containers: Sequence[Manifest] = ()
) -> Finding:
    """
    Args:
        message: The API server's answer.
        since: Since when it answers so.
        restart: The command that makes the controller try again at once.
        containers: Those of the pods' template, which tell whose value it is that is refused.
    """
    said = shortened(message)
    if is_of_quota(message):
        hint = (
            f"when there is room again, Kubernetes tries within {_LONGEST_BACKOFF_MINUTES} minutes; "
            f"`{restart}`, which replaces the pods, hurries it"
        )
        return Finding(Reason.QUOTA_EXCEEDED, f"{said}; {hint}", since, is_shortage=True)
    fields = _fields(message) or _fields_in_a_range(message, containers)
    hint = f"; set {', '.join(fields)}" if fields else ""
    may_pass = _VERDICT.search(message) is None or _OUR_ACCOUNT in message
    return Finding(Reason.PODS_FORBIDDEN, f"{said}{hint}", since, may_pass=may_pass)


def _fields(message: str) -> list[str]:
    """Those without which a quota of limits lets no pod in: `must specify limits.cpu for: fetch,serve; …`."""
    found = []
    for part in message.partition(_UNSAID)[2].split(";"):
        resources, _, names = part.partition(" for: ")
        containers = {each.strip() for each in names.split(",")}
        is_download = bool(containers & {*STARTING_CONTAINERS} - {SERVE_CONTAINER})
        for resource, serving, download in _FIELDS:
            if f".{resource}" not in resources:
                continue
            if SERVE_CONTAINER in containers or not names:
                found.append(f"spec.resources.{serving}")
            if is_download:
                found.append(f"spec.resources.download.{download}")
    return found


def _fields_in_a_range(message: str, containers: Sequence[Manifest]) -> list[str]:
    """Those that a LimitRange refuses as they are, or without which its default is below a request."""
    found = []
    for each in _ABOVE_A_DEFAULT.finditer(message):
        path = "spec.resources." + "download." * (each["containers"] == "initContainers")
        found.append(f"{path}{_REQUESTS[each['resource']]}")
    for each in _OUT_OF_RANGE.finditer(message):
        what = each["what"] or each["missing"]
        blamed = _with_value(containers, each["resource"], f"{what}s", each["value"])
        found += _fields_of(blamed, each["resource"], [what])
    for each in _OUT_OF_RATIO.finditer(message):
        blamed = _out_of_ratio(containers, each["resource"], each["most"])
        found += _fields_of(blamed, each["resource"], ["request", "limit"])
    return list(dict.fromkeys(found))


def _with_value(
    containers: Sequence[Manifest], resource: str, what: str, value: str | None
) -> list[Manifest]:
    """Those that have this limit or request, else those that have none and got a default, else all: of a pod
    the sum is told."""
    has = [each.get("resources", {}).get(what, {}).get(resource) for each in containers]
    alike = [each for each, text in zip(containers, has, strict=True) if _is_same(text, value)]
    bare = [each for each, text in zip(containers, has, strict=True) if text is None]
    return alike or bare or list(containers)


def _out_of_ratio(containers: Sequence[Manifest], resource: str, most: str) -> list[Manifest]:
    """Those whose limit is more than so many times their request, or that leave one of them to a default."""

    def is_out(container: Manifest) -> bool:
        resources = container.get("resources", {})
        pair = [resources.get(each, {}).get(resource) for each in ("limits", "requests")]
        if None in pair:
            return True
        limit, request = map(parse_quantity, pair)
        return limit > request * parse_quantity(most)

    return [each for each in containers if is_out(each)] or list(containers)


def _is_same(text: str | None, value: str | None) -> bool:
    if text is None or value is None:
        return False
    try:
        return parse_quantity(text) == parse_quantity(value)
    except ValueError:
        return False


def _fields_of(containers: Sequence[Manifest], resource: str, whats: Sequence[str]) -> list[str]:
    """The fields that give these containers, or where none is known the serving one, what they ask for."""
    found = []
    for name in [each["name"] for each in containers] or [SERVE_CONTAINER]:
        if name == SERVE_CONTAINER:
            found += [f"spec.resources.{_serving_field(resource, each)}" for each in whats]
        elif resource in _REQUESTS:
            found.append(f"spec.resources.download.{_REQUESTS[resource]}")
    return found


def _serving_field(resource: str, what: str) -> str:
    if what == "limit" and resource == "cpu":
        return "cpuLimit"
    return _REQUESTS.get(resource, "gpu")
