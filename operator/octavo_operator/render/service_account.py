"""An identity of their own for the pods, with no token and no rights."""

from __future__ import annotations

from octavo_operator.manifest import SERVICE_ACCOUNT, Manifest
from octavo_operator.render.context import RenderContext
from octavo_operator.render.metadata import child


def service_account(context: RenderContext) -> Manifest:
    """The namespace's `default` account may have rights that a model server should not get."""
    return child(context, SERVICE_ACCOUNT, context.name, automountServiceAccountToken=False)
