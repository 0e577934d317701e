"""Listening addresses of the pods: all that they have, of both versions of IP. A pod of a cluster of version
6 alone has no other, and its probes and clients come by that.

Earlier builds had the pods listen on version 4 alone. Templates of that form stay as they are until something
else in them changes (`workload/in_force.py`).
"""

from __future__ import annotations

from dataclasses import replace

from octavo_operator.names import OPS_PORT
from octavo_operator.render.context import PodContext

EVERY_ADDRESS = "::"
"""The runtime takes it for all addresses of version 4 too, and for those alone where there are no others."""
_EVERY_ADDRESS_OF_4 = "0.0.0.0"  # noqa: S104


def serving_address(context: PodContext) -> str:
    """The host that `octavo serve` listens on."""
    return _EVERY_ADDRESS_OF_4 if context.has_version_4_alone else EVERY_ADDRESS


def progress_address(context: PodContext) -> str:
    """Host and port on which a download answers."""
    host = _EVERY_ADDRESS_OF_4 if context.has_version_4_alone else f"[{EVERY_ADDRESS}]"
    return f"{host}:{OPS_PORT}"


def on_version_4(context: PodContext) -> PodContext:
    """The same pods in the earlier form."""
    return replace(context, has_version_4_alone=True, has_port_twice=True)
