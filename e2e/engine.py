"""Container engine of the clusters: the Docker that runs, else our own, started for this alone."""

from __future__ import annotations

from e2e.docker import Engine, users_engine
from e2e.paths import Layout
from e2e.without_docker import engine as own
from e2e.without_docker import sysctls


def running_engine(layout: Layout) -> Engine | None:
    """The engine that answers now: ours if we started one, else the user's Docker."""
    return own.ours_if_running(layout) or users_engine()


def ensure_engine(layout: Layout) -> Engine:
    """The engine that answers, starting the distribution's own if there is none."""
    engine = running_engine(layout) or own.start(layout)
    if engine.is_ours:
        sysctls.raise_all(layout)
    return engine


def engine_with_containers(layout: Layout) -> Engine | None:
    """The engine that holds our containers, to remove them: one of ours that died is started."""
    containers = layout.engine / "data/containers"
    left = containers.is_dir() and any(containers.iterdir())
    return running_engine(layout) or (own.start(layout) if left else None)
