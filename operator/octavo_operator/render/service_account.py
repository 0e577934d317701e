"""ServiceAccount. An identity of their own for the pods, with no token and no rights."""

from __future__ import annotations

from octavo_operator.manifest import SERVICE_ACCOUNT, Child, ChildKey
from octavo_operator.render.context import RenderContext
from octavo_operator.render.metadata import child

KEY = ChildKey(SERVICE_ACCOUNT)


def service_account(context: RenderContext) -> Child:
    """The namespace's `default` account may have rights that a model server should not get."""
    return child(context.owner, KEY, automountServiceAccountToken=False)
