"""NetworkPolicy. The fence around the pods.

In: the OpenAI port from the pods of any namespace (the API key guards it); the ops port from the
monitoring namespaces and the operator's. The kubelet's probes come from the pod's own node, which
Kubernetes always admits. Out: names (DNS), and what the download needs.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo_operator.api.v1alpha1 import ModelSpec
from octavo_operator.manifest import NETWORK_POLICY, Child, ChildKey
from octavo_operator.manifest_types import (
    NetworkPolicyEgressRule,
    NetworkPolicyPort,
    NetworkPolicySpec,
)
from octavo_operator.names import HTTP_PORT, OPS_PORT, selector
from octavo_operator.render.context import RenderContext
from octavo_operator.render.metadata import child

KEY = ChildKey(NETWORK_POLICY)

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_DNS_PORT = 53


def network_policy(context: RenderContext) -> Child:
    """Selects the pods of this LLMDeployment; everything that is not listed is refused."""
    ops_namespaces = sorted(
        {*context.installation.monitoring_namespaces, context.installation.operator_namespace}
    )
    spec: NetworkPolicySpec = {
        "podSelector": {"matchLabels": selector(context.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"namespaceSelector": {}}], "ports": [_tcp(HTTP_PORT)]},
            {
                "from": [
                    {
                        "namespaceSelector": {
                            "matchExpressions": [
                                {
                                    "key": _NAMESPACE_NAME,
                                    "operator": "In",
                                    "values": ops_namespaces,
                                }
                            ]
                        }
                    }
                ],
                "ports": [_tcp(OPS_PORT)],
            },
        ],
        "egress": _egress(context.spec.model, context.installation.download_ports),
    }
    return child(context.owner, KEY, spec=spec)


def _egress(model: ModelSpec, download_ports: Sequence[int]) -> list[NetworkPolicyEgressRule]:
    dns: NetworkPolicyEgressRule = {
        "ports": [{"port": _DNS_PORT, "protocol": "UDP"}, _tcp(_DNS_PORT)]
    }
    match model.scheme:
        case "hf":
            return [dns, {"ports": [_tcp(port) for port in download_ports]}]
        case "s3":
            # Object stores inside a cluster listen wherever they like.
            return [dns, {"ports": [{"port": 1, "endPort": 65535, "protocol": "TCP"}]}]
        case "pvc" | "builtin":
            return [dns]


def _tcp(port: int) -> NetworkPolicyPort:
    return {"port": port, "protocol": "TCP"}
