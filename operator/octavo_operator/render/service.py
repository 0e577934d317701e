"""The Service that users call: the OpenAI port alone, never the ops port."""

from __future__ import annotations

from octavo_operator.manifest import SERVICE, Manifest, ObjectKey
from octavo_operator.render.context import RenderContext
from octavo_operator.render.metadata import HTTP_PORT, child, selector


def service(context: RenderContext) -> Manifest:
    """A ClusterIP Service named after the LLMDeployment."""
    return child(
        context,
        SERVICE,
        context.name,
        spec={
            "type": "ClusterIP",
            "selector": selector(context.name),
            "ports": [
                {
                    "name": "http",
                    "port": HTTP_PORT,
                    "targetPort": "http",
                    "protocol": "TCP",
                    "appProtocol": "http",
                }
            ],
        },
    )


def url(key: ObjectKey) -> str:
    """The base URL for OpenAI clients, from any namespace of the cluster."""
    return f"http://{key.name}.{key.namespace}.svc:{HTTP_PORT}/v1"
