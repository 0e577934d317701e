"""Progress of a download: the container that fetches answers on the ops port, so that the operator can tell
how far it is.

It declares no port: the container that serves declares this one, and who edits a Deployment with a port that
is declared twice is warned by the API server. The first builds had it fetch in silence, later ones declared
the port twice. Templates of these forms stay as they are until something else in them changes
(`workload/in_force.py`).
"""

from __future__ import annotations

from dataclasses import replace

from octavo_operator.manifest_types import ContainerPort, EnvVar
from octavo_operator.names import FETCH_PORT_NAME, OPS_PORT
from octavo_operator.render.context import PodContext
from octavo_operator.render.listening import on_version_4, progress_address


def ports(context: PodContext) -> list[ContainerPort]:
    """Of the fetching container."""
    if context.has_silent_download or not context.has_port_twice:
        return []
    return [{"name": FETCH_PORT_NAME, "containerPort": OPS_PORT, "protocol": "TCP"}]


def variables(context: PodContext) -> list[EnvVar]:
    """No flag: a version that `spec.runtime` holds, and that knows none, would refuse it."""
    if context.has_silent_download:
        return []
    return [{"name": "OCTAVO_PROGRESS_ADDRESS", "value": progress_address(context)}]


def with_port_twice(context: PodContext) -> PodContext | None:
    """The same pods in the form before this one; None where nothing is downloaded."""
    return replace(context, has_port_twice=True) if context.spec.has_downloads else None


def in_silence(context: PodContext) -> PodContext | None:
    """The same pods in the earlier form; None where nothing is downloaded."""
    # Drafts were never fetched in silence: that form of theirs is nobody's.
    if not context.spec.model.is_downloaded:
        return None
    return replace(on_version_4(context), has_silent_download=True)
