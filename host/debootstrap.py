"""Debootstrap: a minimal Debian in a folder, for the images' base and for a node of our own.

The tool itself is unpacked into the cache, never installed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from host import apt
from host.debian import unpacked
from host.errors import ToolError
from host.process import run

_TIMEOUT_SECONDS = 1800
_KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"
# A mount and a process namespace of its own: an interruption leaves no mount and no process behind.
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc")


def bootstrap(
    root: Path, suite: str, packages: Sequence[str], *, cache: Path, log: Path
) -> apt.Mirrors:
    """Debian `suite` at `root` with the packages, in about a minute; returns where it came from.

    The tool is kept in a folder below `cache`.

    Raises `ToolError` on a machine without apt, where no mirror is known, and without a key to check its
    signatures with.
    """
    # The keys belong to it, though a machine that is no Debian may lack them as well.
    names = ("debootstrap", "debian-archive-keyring")
    tool = unpacked("debootstrap", names, ("debootstrap",), cache, log)
    mirrors = apt.host_mirrors(suite)
    keyring = tool.root / _KEYRING
    if not keyring.is_file():
        raise ToolError("The keys of Debian's archive were not found", log=log)
    command = [*_NAMESPACES, "debootstrap", "--variant=minbase", f"--keyring={keyring}"]
    command += [f"--include={','.join(packages)}", suite, str(root), mirrors.main]
    environment = tool.environment(os.environ)
    run(command, env=environment, log=log, timeout_seconds=_TIMEOUT_SECONDS)
    return mirrors
