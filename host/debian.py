"""Debian packages without installing them: what the machine lacks is unpacked into the cache.

Nothing of the machine changes: apt only downloads (its signatures are checked as always), the
files are unpacked below the cache, and programs find them through `environment()`.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from host.errors import ToolError
from host.process import run, succeeds
from host.progress import step


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Packages unpacked at `root`."""

    root: Path

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` with the unpacked programs first on PATH and their libraries findable."""
        triple = f"{platform.machine()}-linux-gnu"
        # Some packages still put their files where /lib was a folder of its own.
        libraries = [self.root / "usr/lib" / triple, self.root / "lib" / triple]
        path = [str(self.root / folder) for folder in ("usr/sbin", "usr/bin", "sbin", "bin")]
        environment = dict(base)
        environment["PATH"] = ":".join([*path, base.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
        found = [str(library) for library in libraries if library.is_dir()]
        if found:
            known = [base["LD_LIBRARY_PATH"]] if base.get("LD_LIBRARY_PATH") else []
            environment["LD_LIBRARY_PATH"] = ":".join([*found, *known])
        if (libraries[0] / "xtables").is_dir():
            environment["XTABLES_LIBDIR"] = str(libraries[0] / "xtables")
        if (self.root / "usr/share/debootstrap").is_dir():
            environment["DEBOOTSTRAP_DIR"] = str(self.root / "usr/share/debootstrap")
        return environment


def unpacked(
    name: str,
    packages: Sequence[str],
    programs: Sequence[str],
    folder: Path,
    log: Path,
    *,
    finish: Callable[[Path], None] = lambda _root: None,
) -> Unpacked:
    """The packages with all that they need, unpacked once per distribution release.

    Below `folder` they get one of their own by `name`; `finish` is given its path. Raises `ToolError`
    on a machine without apt, and when one of the `programs` does not start from there.
    """
    release = platform.freedesktop_os_release()
    label = f"{release.get('ID', 'linux')}-{release.get('VERSION_ID', 'rolling')}"
    root = folder / f"{name}-{label}"
    found = Unpacked(root)
    if (root / ".complete").exists() and _works(found, programs):
        return found
    if shutil.which("apt-get") is None:
        raise ToolError(
            f"{', '.join(packages)} would be unpacked by apt-get, and this machine has none",
            hint="Start a Docker engine that can pull images, or use a machine with Debian or Ubuntu.",
        )
    with step(f"Unpack {', '.join(packages)} into {root} (nothing is installed)"):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        for file in _download(packages, folder, log):
            run(["dpkg-deb", "--extract", file, root], log=log)
            file.unlink()
        finish(root)
        if not _works(found, programs):
            raise ToolError(
                f"{', '.join(programs)} do not start from where they were unpacked",
                hint=f"Try `LD_LIBRARY_PATH=… {root}/usr/sbin/{programs[0]} --version`, or start Docker.",
                log=log,
            )
        (root / ".complete").touch()
    return found


def _works(found: Unpacked, programs: Sequence[str]) -> bool:
    """Whether the programs still find their libraries on this machine."""
    environment = found.environment(os.environ)
    return all(succeeds([program, "--version"], env=environment) for program in programs)


def _download(packages: Sequence[str], folder: Path, log: Path) -> list[Path]:
    """Download the packages with everything of theirs that the machine lacks."""
    archives = folder / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    (archives / "partial").mkdir(parents=True)
    options = [
        *_lists_that_know(packages[0], folder, log),
        "-o",
        f"Dir::Cache::archives={archives}",
    ]
    options += ["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"]
    # What the machine has installed is not in the dependencies that apt adds, so the packages
    # named here are also fetched when they are installed: the cache must not lean on them.
    arguments = ["install", "--download-only", "--reinstall", "--yes", "--no-install-recommends"]
    run(["apt-get", *options, *arguments, *packages], log=log)
    return sorted(archives.glob("*.deb"))


def _lists_that_know(package: str, folder: Path, log: Path) -> list[str]:
    """apt options under which `package` has a candidate; refreshes private lists if need be."""
    if _has_candidate(package, []):
        return []
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::lists={lists}", "-o", "Debug::NoLocking=1"]
    options += ["-o", "APT::Sandbox::User=root"]
    if not _has_candidate(package, options):
        run(["apt-get", *options, "update"], log=log)
    if not _has_candidate(package, options):
        raise ToolError(
            f"apt knows no package {package}",
            hint="Start Docker yourself, or enable the distribution's main (Ubuntu: universe) archive.",
        )
    return options


def _has_candidate(package: str, options: list[str]) -> bool:
    policy = run(["apt-cache", *options, "policy", package])
    return "Candidate:" in policy and "Candidate: (none)" not in policy
