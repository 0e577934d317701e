"""NetworkPolicy. The fence around the pods.

In: the OpenAI port from the pods of any namespace, and from everywhere where `spec.service` leads in from
outside (the API key guards it); the ops port from the monitoring namespaces and the operator's. The kubelet's
probes come from the pod's own node, which Kubernetes always admits. Out: names (DNS), and what the download
needs.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo_operator.api.v1alpha1 import ModelSource, ServiceType
from octavo_operator.manifest import NETWORK_POLICY, Child, ChildKey, Manifest
from octavo_operator.manifest_types import (
    NetworkPolicyEgressRule,
    NetworkPolicyIngressRule,
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
            _openai_ingress(context.spec.service.type),
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
        "egress": _egress(context.spec.sources, context.installation.download_ports),
    }
    return child(context.owner, KEY, spec=spec)


def ops_namespaces(manifest: Manifest) -> frozenset[str]:
    """Those that reach the ops port by a policy that an operator of ours made, its own among them; none by
    what is no such policy."""
    if manifest.get("kind") != NETWORK_POLICY.kind:
        return frozenset()
    peers = (peer for rule in manifest["spec"].get("ingress", ()) for peer in rule.get("from", ()))
    selectors = (peer.get("namespaceSelector", {}) for peer in peers)
    terms = (term for each in selectors for term in each.get("matchExpressions", ()))
    return frozenset(
        name for term in terms if term["key"] == _NAMESPACE_NAME for name in term.get("values", ())
    )


def _openai_ingress(service_type: ServiceType) -> NetworkPolicyIngressRule:
    if service_type is ServiceType.CLUSTER_IP:
        return {"from": [{"namespaceSelector": {}}], "ports": [_tcp(HTTP_PORT)]}
    # What comes from outside has the address of a node, a load balancer or a stranger.
    return {"ports": [_tcp(HTTP_PORT)]}


def _egress(
    sources: Sequence[ModelSource], download_ports: Sequence[int]
) -> list[NetworkPolicyEgressRule]:
    dns: NetworkPolicyEgressRule = {
        "ports": [{"port": _DNS_PORT, "protocol": "UDP"}, _tcp(_DNS_PORT)]
    }
    schemes = {each.scheme for each in sources}
    if "s3" in schemes:
        # Object stores inside a cluster listen wherever they like.
        return [dns, {"ports": [{"port": 1, "endPort": 65535, "protocol": "TCP"}]}]
    if "hf" in schemes:
        return [dns, {"ports": [_tcp(port) for port in download_ports]}]
    return [dns]


def _tcp(port: int) -> NetworkPolicyPort:
    return {"port": port, "protocol": "TCP"}
