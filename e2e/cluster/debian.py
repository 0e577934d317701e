"""Debian packages without installing them: what the machine lacks is unpacked into the cache.

Nothing of the machine changes: apt only downloads (its signatures are checked as always), the
files are unpacked below the cache, and programs find them through `environment()`.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import versions
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import Layout
from e2e.cluster.process import run, succeeds
from e2e.cluster.progress import step


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

    def keyring(self) -> Path | None:
        """The keys of Debian's archive, from the machine or from the unpacked package."""
        name = "usr/share/keyrings/debian-archive-keyring.gpg"
        for candidate in (Path("/") / name, self.root / name):
            if candidate.is_file():
                return candidate
        return None


def engine_packages(layout: Layout) -> Unpacked:
    """The distribution's Docker engine with its tools, unpacked once per distribution release."""
    release = platform.freedesktop_os_release()
    label = f"{release.get('ID', 'linux')}-{release.get('VERSION_ID', 'rolling')}"
    root = layout.debian / f"engine-{label}"
    unpacked = Unpacked(root)
    if (root / ".complete").exists() and _works(unpacked):
        return unpacked
    packages = list(versions.ENGINE_DEBIAN_PACKAGES)
    if unpacked.keyring() is None:
        packages.append("debian-archive-keyring")
    with step(f"Unpack {', '.join(packages)} into {root} (nothing is installed)"):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        for file in _download(packages, layout):
            run(["dpkg-deb", "--extract", file, root], log=layout.logs / "debian.log")
            file.unlink()
        _link_iptables(root)
        if not _works(unpacked):
            raise ClusterError(
                "The distribution's Docker engine does not start from where it was unpacked",
                hint=f"Try `LD_LIBRARY_PATH=… {root}/usr/sbin/dockerd --version`, or start Docker.",
                log=layout.logs / "debian.log",
            )
        (root / ".complete").touch()
    return unpacked


def _works(unpacked: Unpacked) -> bool:
    """Whether the engine's programs still find their libraries on this machine."""
    environment = unpacked.environment(os.environ)
    programs = ("dockerd", "containerd", "runc", "nft", "debootstrap")
    return all(succeeds([name, "--version"], env=environment) for name in programs)


def _download(packages: list[str], layout: Layout) -> list[Path]:
    """Download the packages with everything of theirs that the machine lacks."""
    folder = layout.debian / "archives"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "partial").mkdir(parents=True)
    options = [
        *_lists_that_know(packages[0], layout),
        "-o",
        f"Dir::Cache::archives={folder}",
        "-o",
        "Debug::NoLocking=1",
        "-o",
        "APT::Sandbox::User=root",
    ]
    log = layout.logs / "debian.log"
    # What the machine has installed is not in the dependencies that apt adds, so the packages
    # named here are also fetched when they are installed: the cache must not lean on them.
    arguments = ["install", "--download-only", "--reinstall", "--yes", "--no-install-recommends"]
    run(["apt-get", *options, *arguments, *packages], log=log)
    return sorted(folder.glob("*.deb"))


def _lists_that_know(package: str, layout: Layout) -> list[str]:
    """apt options under which `package` has a candidate; refreshes private lists if need be."""
    if _has_candidate(package, []):
        return []
    lists = layout.debian / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::lists={lists}", "-o", "Debug::NoLocking=1"]
    options += ["-o", "APT::Sandbox::User=root"]
    if not _has_candidate(package, options):
        run(["apt-get", *options, "update"], log=layout.logs / "debian.log")
    if not _has_candidate(package, options):
        raise ClusterError(
            f"apt knows no package {package}",
            hint="Start Docker yourself, or enable the distribution's main (Ubuntu: universe) archive.",
        )
    return options


def _has_candidate(package: str, options: list[str]) -> bool:
    policy = run(["apt-cache", *options, "policy", package])
    return "Candidate:" in policy and "Candidate: (none)" not in policy


def _link_iptables(root: Path) -> None:
    """Debian chooses the iptables variant by alternatives at installation; we choose nft."""
    folder = root / "usr/sbin"
    if not (folder / "xtables-nft-multi").exists():
        return
    for name in ("iptables", "iptables-save", "iptables-restore", "ip6tables"):
        link = folder / name
        if not link.is_symlink():
            link.symlink_to("xtables-nft-multi")
