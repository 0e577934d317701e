"""Surroundings of pods: addresses, evictions, fences."""

from __future__ import annotations

from typing import Literal, NotRequired, Required, TypedDict

from octavo_operator.manifest_types.meta import LabelSelector


class ServicePort(TypedDict):
    """A port of a Service, and the pods' port behind it by name."""

    name: str
    port: int
    targetPort: str
    protocol: Literal["TCP", "UDP"]
    appProtocol: str


class ServiceSpec(TypedDict):
    """An address for pods."""

    type: str
    selector: dict[str, str]
    ports: list[ServicePort]
    ipFamilyPolicy: NotRequired[str]


class PodDisruptionBudgetSpec(TypedDict):
    """How many pods may be evicted at once."""

    maxUnavailable: int
    unhealthyPodEvictionPolicy: Literal["IfHealthyBudget", "AlwaysAllow"]
    selector: LabelSelector


class NetworkPolicyPort(TypedDict, total=False):
    """A port, or a range of them up to `endPort`."""

    port: Required[int]
    endPort: int
    protocol: Required[Literal["TCP", "UDP"]]


class NetworkPolicyPeer(TypedDict):
    """Pods of the namespaces that are selected."""

    namespaceSelector: LabelSelector


NetworkPolicyIngressRule = TypedDict(
    "NetworkPolicyIngressRule",
    {"from": NotRequired[list[NetworkPolicyPeer]], "ports": list[NetworkPolicyPort]},
)
"""Who may reach which ports; without `from` everybody. Written as a call because that is a keyword."""


class NetworkPolicyEgressRule(TypedDict):
    """Which ports may be reached, anywhere."""

    ports: list[NetworkPolicyPort]


class NetworkPolicySpec(TypedDict):
    """A fence around pods."""

    podSelector: LabelSelector
    policyTypes: list[Literal["Ingress", "Egress"]]
    ingress: list[NetworkPolicyIngressRule]
    egress: list[NetworkPolicyEgressRule]
