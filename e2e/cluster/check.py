"""`python3 -m e2e.cluster.check demo|test|cluster`: what this machine lacks, before anything is fetched.

It runs with a bare Python and ends within a second or two; silence means that nothing is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from e2e import engine
from e2e.docker import Engine
from e2e.paths import Layout, cache_layout
from e2e.preflight import machine as preflight
from e2e.preflight.machine import GB, Later
from e2e.preflight.packages import Purpose, is_same_disk, packages_bytes, venv_problems
from host.errors import ToolError
from host.progress import complain
from images.build import needed_gigabytes
from images.inputs import ImageName
from images.registry import CLUSTER_REGISTRY

IMAGES_LEFT_BYTES = 9 * GB
"""The builder's store and the registry's copy of both images."""


def main() -> int:
    """The exit status: 1 when something is missing, all of which is told."""
    options = _parser().parse_args()
    layout = cache_layout()
    try:
        venv = Path(options.venv).absolute()
        running = engine.running_engine(layout)
        packages = packages_bytes(options.purpose, venv)
        shares_disk = is_same_disk(venv, layout.root)
        others = venv_problems(venv, 0 if shares_disk else packages)
        later = _later(options.purpose, packages if shares_disk else 0, running, layout)
        is_new = not (layout.cluster(options.name) / "cluster.json").exists()
        machine = preflight.look(
            layout,
            running,
            max(1, options.workers) if is_new else 0,
            later=later,
            needed_tools=preflight.API_SERVER_TOOLS if preflight.requires_api_server() else (),
        )
        preflight.check(machine, others)
    except ToolError as error:
        complain(str(error))
        return 1
    return 0


def _later(purpose: Purpose, packages: int, running: Engine | None, layout: Layout) -> Later:
    if purpose is Purpose.CLUSTER or _has_images(running, layout):
        return Later(packages)
    peak = int(sum(needed_gigabytes(image) for image in ImageName) * GB)
    return Later(packages, peak, IMAGES_LEFT_BYTES)


def _has_images(running: Engine | None, layout: Layout) -> bool:
    if (layout.root / "images/storage").exists():
        return True
    if running is None or running.is_ours:
        return False
    repository = f"{CLUSTER_REGISTRY}/{ImageName.RUNTIME.repository}"
    return bool(running.call("image", "ls", "--quiet", repository).strip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m e2e.cluster.check", description=__doc__)
    parser.add_argument("purpose", type=Purpose, choices=list(Purpose), metavar="demo|test|cluster")
    parser.add_argument("--name", default="octavo", help="the cluster's name")
    parser.add_argument("--workers", type=int, default=0, help="its nodes beside the control plane")
    parser.add_argument("--venv", default=os.environ.get("VENV", ".venv"), help="its folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
