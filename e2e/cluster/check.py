"""`python3 -m e2e.cluster.check demo|test|cluster`: what this machine lacks, before anything is fetched.

It runs with a bare Python and ends within a second or two; silence means that nothing is missing.
"""

from __future__ import annotations

import argparse
import enum
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from e2e.cluster import engine, preflight
from e2e.cluster.engine import Engine
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import Layout, cache_layout
from e2e.cluster.preflight import GB, Later
from e2e.cluster.progress import complain
from images.build import needed_gigabytes
from images.inputs import ImageName
from images.registry import CLUSTER_REGISTRY

TOOLS_BYTES = GB // 2
"""The Python environment of `make demo`."""
ALL_PACKAGES_BYTES = 13 * GB // 2
"""That of `make test`: torch and its libraries."""
IMAGES_LEFT_BYTES = 9 * GB
"""The builder's store and the registry's copy of both images."""


class Purpose(enum.Enum):
    """What is to be done on this machine."""

    DEMO = "demo"
    TEST = "test"
    CLUSTER = "cluster"


def main() -> int:
    """The exit status: 1 when something is missing, all of which is told."""
    options = _parser().parse_args()
    layout = cache_layout()
    try:
        venv = Path(options.venv).absolute()
        running = engine.running_engine(layout)
        packages = packages_bytes(options.purpose, venv)
        shares_disk = _is_same_disk(venv, layout.root)
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
    except ClusterError as error:
        complain(str(error))
        return 1
    return 0


def _later(purpose: Purpose, packages: int, running: Engine | None, layout: Layout) -> Later:
    if purpose is Purpose.CLUSTER or _has_images(running, layout):
        return Later(packages)
    peak = int(sum(needed_gigabytes(image) for image in ImageName) * GB)
    return Later(packages, peak, IMAGES_LEFT_BYTES)


def venv_problems(venv: Path, needed_bytes: int) -> list[str]:
    """What stands in the way of the Python environment, which takes these bytes of its own disk."""
    found = []
    if not venv.exists() and importlib.util.find_spec("ensurepip") is None:
        found.append("Python's venv module is missing: apt-get install python3-venv.")
    free = shutil.disk_usage(_existing(venv)).free
    if free < needed_bytes:
        found.append(
            f"{venv} has {free / GB:.1f} GB free and {needed_bytes / GB:.1f} GB are needed for the "
            "Python packages: free some, or set VENV to a folder on another disk."
        )
    return found


def packages_bytes(purpose: Purpose, venv: Path) -> int:
    """What is still to be installed into the Python environment."""
    if purpose is Purpose.TEST:
        return 0 if (venv / ".dev").exists() else ALL_PACKAGES_BYTES
    return 0 if (venv / ".tools").exists() else TOOLS_BYTES


def _has_images(running: Engine | None, layout: Layout) -> bool:
    if (layout.root / "images/storage").exists():
        return True
    if running is None or running.is_ours:
        return False
    repository = f"{CLUSTER_REGISTRY}/{ImageName.RUNTIME.repository}"
    return bool(running.call("image", "ls", "--quiet", repository).strip())


def _is_same_disk(one: Path, other: Path) -> bool:
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m e2e.cluster.check", description=__doc__)
    parser.add_argument("purpose", type=Purpose, choices=list(Purpose), metavar="demo|test|cluster")
    parser.add_argument("--name", default="octavo", help="the cluster's name")
    parser.add_argument("--workers", type=int, default=0, help="its nodes beside the control plane")
    parser.add_argument("--venv", default=os.environ.get("VENV", ".venv"), help="its folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
