"""No package registry's and no mirror's host stands in the tree: where packages come from is the machine's.

Locks carry hashes alone; an image's reference is a name that a build argument or a flag replaces.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Each in two parts, so that this file names none either.
HOSTS = [
    f"{name}.{domain}".encode()
    for name, domain in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download.pytorch", "org"),
        ("anaconda", "org"),
        ("anaconda", "com"),
        ("deb.debian", "org"),
        ("security.debian", "org"),
        ("ftp.debian", "org"),
        ("snapshot.debian", "org"),
        ("archive.ubuntu", "com"),
        ("security.ubuntu", "com"),
        ("ports.ubuntu", "com"),
        ("dl-cdn.alpinelinux", "org"),
        ("proxy.golang", "org"),
        ("sum.golang", "org"),
        ("goproxy", "io"),
        ("goproxy", "cn"),
        ("npmjs", "org"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("developer.download.nvidia", "com"),
        ("pypi.nvidia", "com"),
        ("dl.k8s", "io"),
        ("get.helm", "sh"),
        ("aliyun", "com"),
        ("tuna.tsinghua", "edu"),
    )
]
# A lock or a configuration of a client that would send it to an index, whatever the index is called.
INDEX_LINES = re.compile(
    r"^\s*(--(extra-)?index-url|--default-index|--find-links|-i|index-url|\[\[tool\.uv\.index\]\])\b",
    re.MULTILINE,
)


def tracked_files() -> list[Path]:
    """All files of the commit and those that would join it."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_the_host_of_a_package_registry() -> None:
    files = tracked_files()
    assert ROOT / "pyproject.toml" in files
    found = []
    for path in files:
        content = path.read_bytes()
        found += [f"{path.relative_to(ROOT)}: {host.decode()}" for host in HOSTS if host in content]
    assert found == []


def test_locks_carry_hashes_and_no_index() -> None:
    locks = [*sorted((ROOT / "locks").glob("*.txt")), ROOT / "images/tools.txt"]
    assert len(locks) > 4
    for lock in locks:
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert INDEX_LINES.findall(text) == [], lock
        assert re.findall(r"\w+://\S+", text) == [], lock
