"""Side environment: a virtual environment beside the one that runs this, for packages that it must not have.

It is what its lock says. What that leaves out, torch first of all, is found in the environment beside.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SideEnvironment:
    folder: Path
    lock: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    @property
    def site_packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.folder)}))

    def prepare(self) -> None:
        """Makes it, or makes it anew where the lock has changed."""
        uv = Path(sys.executable).with_name("uv")
        if not self.python.exists():
            command: list[str | Path] = [uv, "venv", "--quiet", "--python", sys.executable]
            subprocess.run([*command, self.folder], check=True)
        # These packages come last: only what the lock leaves out is found there.
        path_file = self.site_packages / "zz_beside.pth"
        path_file.write_text(f"{sysconfig.get_paths()['purelib']}\n", encoding="utf-8")
        install: list[str | Path] = [uv, "pip", "install", "--quiet", "--no-deps"]
        locked: list[str | Path] = ["--require-hashes", "-r", self.lock]
        install_once(self.folder, self.lock, [*install, "--python", self.python, *locked])


def install_once(
    folder: Path,
    lock: Path,
    command: list[str | Path],
    where: Path | None = None,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Runs an installation, of which `then` is the end, unless `folder` was made from this very lock."""
    stamp, digest = folder / ".lock-sha256", sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return
    print(f"== {folder.name}: from {lock.parent.name}/{lock.name}", flush=True)
    subprocess.run(command, cwd=where, check=True)
    then()
    stamp.write_text(digest, encoding="utf-8")


if __name__ == "__main__":
    SideEnvironment(*(Path(name).absolute() for name in sys.argv[1:3])).prepare()
