"""Children: every object that an LLMDeployment may own, and those that its spec asks for."""

from __future__ import annotations

from octavo_operator.manifest import Child, ChildKey, Kind
from octavo_operator.render import SURROUNDINGS, RenderContext, surroundings
from octavo_operator.workload import WORKLOADS, Workload

CHILDREN: tuple[ChildKey, ...] = tuple(
    dict.fromkeys(
        (
            *SURROUNDINGS,
            *(key for each in WORKLOADS for key in (*each.companions, each.key)),
        )
    )
)
"""In the order in which they are applied: what a pod needs comes before the pods."""

CHILD_KINDS: tuple[Kind, ...] = tuple(dict.fromkeys(key.kind for key in CHILDREN))
"""The kinds among them, each once."""


def desired(context: RenderContext, workload: Workload) -> list[Child]:
    """Every child that the spec asks for, in the order in which they are to be applied."""
    return [*surroundings(context), *workload.children(context)]
