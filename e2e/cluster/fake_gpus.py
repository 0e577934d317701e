"""Nodes that claim GPUs: scheduling is real, the pods compute on the CPU.

The kubelet keeps a resource that it does not manage when it updates its node's status, but sets
it to zero when it starts again: call this again after a node came back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

RESOURCE = "nvidia.com/gpu"


def patch(count: int) -> str:
    """The JSON merge patch of a node's status; a count of 0 takes the resource away."""
    if count < 0:
        raise ValueError(f"a node can't have {count} GPUs")
    amount = str(count) if count else None
    return json.dumps(
        {"status": {"capacity": {RESOURCE: amount}, "allocatable": {RESOURCE: amount}}}
    )


def set_fake_gpus(kubectl: Callable[..., str], nodes: Sequence[str], count: int) -> None:
    """Give each of the nodes `count` GPUs; `kubectl` runs a kubectl command."""
    for node in nodes:
        kubectl(
            "patch", "node", node, "--subresource=status", "--type=merge", "--patch", patch(count)
        )
