"""Service that users call: the OpenAI port alone, never the ops port."""

from __future__ import annotations

from octavo_operator.manifest import SERVICE, Child, ChildKey, Manifest, ObjectKey
from octavo_operator.manifest_types import ServiceSpec
from octavo_operator.names import HTTP_PORT, HTTP_PORT_NAME, labels
from octavo_operator.render.context import RenderContext
from octavo_operator.render.metadata import child

KEY = ChildKey(SERVICE)

_OFF_THE_NETWORK = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
"""Labels of a Service that kube-proxy leaves alone, though its endpoints stand; others are everybody's."""


def service(context: RenderContext) -> Child:
    """A Service named after the LLMDeployment, within the cluster unless the spec says otherwise."""
    wanted = context.spec.service
    spec: ServiceSpec = {
        "type": wanted.type.value,
        # All that our pods have in common: the label by which they are found is soon copied to another.
        "selector": labels(context.name) | dict(context.answering_labels),
        "ports": [
            {
                "name": HTTP_PORT_NAME,
                "port": HTTP_PORT,
                "targetPort": HTTP_PORT_NAME,
                "protocol": "TCP",
                "appProtocol": "http",
            }
        ],
    }
    if wanted.ip_family_policy is not None:
        spec["ipFamilyPolicy"] = wanted.ip_family_policy.value
    return child(context.owner, KEY, annotations=wanted.annotations, spec=spec)


def off_the_network(live: Manifest) -> list[str]:
    """The labels that somebody put on it by which it leads nowhere."""
    labels = live["metadata"].get("labels", {})
    return [each for each in _OFF_THE_NETWORK if each in labels]


def is_headless(live: Manifest) -> bool:
    """Whether it has no address of its own, which ours are never made without."""
    return bool(live["spec"].get("clusterIP") == "None")


def url(key: ObjectKey) -> str:
    """The base URL for OpenAI clients, from any namespace of the cluster."""
    return f"http://{KEY.name_for(key.name)}.{key.namespace}.svc:{HTTP_PORT}/v1"


def host_names(key: ObjectKey) -> tuple[str, ...]:
    """What the cluster's DNS has the Service under, as clients of any namespace write it; a cluster domain
    of one's own is not known here."""
    name = KEY.name_for(key.name)
    service = f"{name}.{key.namespace}.svc"
    return name, f"{name}.{key.namespace}", service, f"{service}.cluster.local"
