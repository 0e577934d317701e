"""Host system: packages to install, private mounts, room on the disk, one holder of a lock at a time."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host.errors import ToolError
from host.process import run_visibly, succeeds
from host.progress import say


def install_packages(*packages: str) -> None:
    """Installs Debian packages that are missing, saying so; raises ToolError where it may not."""
    missing = [name for name in packages if not _is_installed(name)]
    if not missing:
        return
    named = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise ToolError(f"needed and not here: {named}; install it, or start a Docker engine")
    if os.geteuid() != 0:
        raise ToolError(f"needed and not here: {named}; run `sudo apt-get install {named}`")
    say(f"Installing Debian packages: {named}")
    options = ["-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    simulate = ["apt-get", "install", "--simulate", *options, *missing]
    if not succeeds(simulate, env=env, timeout_seconds=None):
        run_visibly(["apt-get", "update", "-qq"], env=env)
    run_visibly(["apt-get", "install", *options, *missing], env=env)


def privately_mounted() -> list[str]:
    """Returns the command prefix that keeps a tool's mounts from outliving it.

    The tool gets a mount namespace of its own: whatever it mounts, and however it ends, the host's
    mount table stays as it was.
    """
    return ["unshare", "--mount", "--propagation", "private"]


def require_free_disk(folder: Path, needed_gigabytes: float, purpose: str) -> None:
    """Raises ToolError when the disk under `folder` has less free than a step needs (10^9 B)."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed_gigabytes:
        raise ToolError(
            f"{purpose} needs {needed_gigabytes:.0f} GB free under {folder}, there are {free:.1f}; "
            "free some, or point OCTAVO_CACHE to a larger disk"
        )


def disk_use(folder: Path) -> int:
    """Returns the bytes that a folder's files take on the disk, 0 where there is no folder.

    Hard links count once; what is mounted below the folder is not entered.
    """
    total, seen = 0, set[tuple[int, int]]()
    device = folder.stat().st_dev if folder.exists() else -1
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if _device(Path(parent, name)) == device]
        for name in names:
            try:
                status = os.lstat(Path(parent) / name)
            except OSError:
                continue  # it went away while we looked
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Holds a lock file that names its holder; the kernel releases it even when we are killed.

    `flock` itself, for which filelock is a wrapper: a bare Python takes clusters down.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            say(f"Waiting for process {stream.read().strip() or '?'} to finish ({lock})")
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def _device(path: Path) -> int:
    try:
        return path.lstat().st_dev
    except OSError:
        return -1


def _is_installed(package: str) -> bool:
    # A program of the package's name serves as well, wherever it came from.
    return shutil.which(package) is not None or succeeds(["dpkg", "--status", package])
