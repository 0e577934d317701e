"""Base image. Makes the base root file system where none can be pulled: Debian with Python, by debootstrap.

It is built once and kept as a tar whose name carries the recipe's hash; both engines import it.
To take in newer packages delete the tar: every image on top is then built anew.
"""

import hashlib
import os
import shutil
from pathlib import Path

from host.debootstrap import bootstrap
from host.errors import ToolError
from host.paths import cache_root
from host.process import run, run_visibly
from host.progress import say, step
from host.system import privately_mounted
from images import paths

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
_RECIPE = "2"
_USELESS = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian"),
    *("var/lib/apt/lists", "var/cache/apt", "var/cache/debconf", "var/log"),
)
_EMPTIED = ("etc/resolv.conf", "etc/hostname", "etc/machine-id")


def recipe_id() -> str:
    """Returns the short hash (hex) of what decides the base: suite, packages, clean-up."""
    recipe = "\n".join((_RECIPE, SUITE, *PACKAGES, *_USELESS, *_EMPTIED))
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def base_reference() -> str:
    """Returns the name of the debootstrapped base in an engine's store."""
    return f"localhost/octavo-base:{SUITE}-{recipe_id()}"


def ensure_base_tar() -> Path:
    """Returns the base's tar, made now if it isn't cached; raises ToolError when it can't be."""
    target = paths.base_folder() / f"debian-{SUITE}-{recipe_id()}.tar"
    if target.is_file():
        return target
    if os.geteuid() != 0:
        raise ToolError(
            "no base image can be pulled and making one with debootstrap needs root; run as root, "
            "or name an image that is here already with --base REF"
        )
    rootfs = target.with_suffix(f".rootfs-{os.getpid()}")
    partial = target.with_suffix(f".partial-{os.getpid()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with step(f"Base: Debian {SUITE} with Python (two minutes, once)", is_live=False):
            _bootstrap(rootfs)
            _write_tar(rootfs, partial)
        partial.rename(target)
    finally:
        shutil.rmtree(rootfs, ignore_errors=True)
        partial.unlink(missing_ok=True)
    say(f"{target}: {target.stat().st_size / 1e6:.0f} MB")
    return target


def _bootstrap(rootfs: Path) -> None:
    root = cache_root()
    log = root / "logs/debootstrap.log"
    mirrors = bootstrap(rootfs, SUITE, PACKAGES, cache=root / "debian", log=log)
    (rootfs / "etc/apt/sources.list").write_text(mirrors.sources_list(SUITE))
    shutil.copy("/etc/resolv.conf", rootfs / "etc/resolv.conf")
    chroot = [*privately_mounted(), "chroot", str(rootfs), "env", "DEBIAN_FRONTEND=noninteractive"]
    run_visibly([*chroot, "apt-get", "update", "-qq"])
    run_visibly([*chroot, "apt-get", "upgrade", "-y", "-qq", "--no-install-recommends"])
    for folder in _USELESS:
        for entry in (rootfs / folder).glob("*"):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    for name in _EMPTIED:
        (rootfs / name).write_text("")


def _write_tar(rootfs: Path, target: Path) -> None:
    command = ["tar", "--create", "--file", str(target), "--directory", str(rootfs)]
    run([*command, "--numeric-owner", "--one-file-system", "--sort=name", "."])
