"""Image that kind makes nodes of: the published one where it can be pulled, else our own.

`OCTAVO_NODE_IMAGE` forces the choice: `auto` (default), `published` or `built`.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass

from e2e import versions
from e2e.docker import Engine
from e2e.paths import Layout
from e2e.without_docker.node_image import build_node_image, built_reference
from host.errors import ToolError

_PULL_SECONDS = 900


class NodeImageSource(enum.Enum):
    """Where the node image comes from."""

    AUTO = "auto"
    PUBLISHED = "published"
    BUILT = "built"


@dataclass(frozen=True, slots=True)
class NodeImage:
    """An image in the engine's store. Our own does not enforce NetworkPolicy."""

    reference: str
    is_published: bool


def wanted_source() -> NodeImageSource:
    """What `OCTAVO_NODE_IMAGE` asks for."""
    value = os.environ.get("OCTAVO_NODE_IMAGE", NodeImageSource.AUTO.value)
    try:
        return NodeImageSource(value)
    except ValueError:
        allowed = ", ".join(source.value for source in NodeImageSource)
        raise ToolError(f"OCTAVO_NODE_IMAGE is {value!r}; it must be one of {allowed}") from None


def ensure_node_image(engine: Engine, layout: Layout) -> NodeImage:
    """The image in the engine's store, pulled or built if it is not there."""
    source = wanted_source()
    built = built_reference()
    if source is not NodeImageSource.PUBLISHED and engine.has_image(built):
        return NodeImage(built, is_published=False)
    if source is not NodeImageSource.BUILT:
        published = versions.PUBLISHED_NODE_IMAGE
        if engine.pull(published, _PULL_SECONDS):
            return NodeImage(published, is_published=True)
        if source is NodeImageSource.PUBLISHED:
            raise ToolError(
                f"{published} can't be pulled",
                hint="Let Docker reach docker.io, or unset OCTAVO_NODE_IMAGE to build the image.",
            )
    build_node_image(engine, layout)
    return NodeImage(built, is_published=False)
