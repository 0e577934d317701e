"""Template in force: the form in which pods are rendered, where an earlier release had another one.

A release may render the same spec differently. Pods that run would start anew for that alone, so a template
that an earlier release made stays until something else in it changes: then all of it is of today's form. So
is one whose pods cannot be reached in the earlier form.
"""

from __future__ import annotations

from collections.abc import Iterable

from octavo_operator.manifest import Manifest
from octavo_operator.pods import PodView
from octavo_operator.render import PodContext
from octavo_operator.render.api_keys import in_environment
from octavo_operator.render.download_progress import in_silence, with_port_twice
from octavo_operator.render.listening import on_version_4
from octavo_operator.workload.base import Workload


def in_force(
    workload: Workload, pods: PodContext, live: Manifest | None, existing: Iterable[PodView] = ()
) -> PodContext:
    """The pods in today's form, or in the earlier one that `live` has exactly."""
    if live is None:
        return pods
    revision = workload.live_revision(live)
    if workload.revision(pods) == revision:
        return pods
    later = with_port_twice(pods)
    if later is not None and workload.revision(later) == revision:
        return later
    # Every form before that one listens on version 4 of IP alone.
    if any(each.addresses and not any("." in at for at in each.addresses) for each in existing):
        return pods
    for earlier in (on_version_4(pods), in_silence(pods), in_environment(pods)):
        if earlier is not None and workload.revision(earlier) == revision:
            return earlier
    return pods
