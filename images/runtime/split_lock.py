"""Cuts the runtime's lock in two, so that torch gets an image layer of its own.

PyTorch with its CUDA libraries is nearly all of the image and changes a few times a year; the
other dependencies change more often. Two requirement files give two layers, and the big one stays
cached, pushed and pulled while the small one moves. Runs inside the image build with the standard
library alone: `split_lock.py LOCK FOLDER [--cpu-torch]` writes FOLDER/torch.txt and
FOLDER/dependencies.txt.

With `--cpu-torch` the torch part is the same version of torch from an index of CPU-only wheels.
Those are other files with other hashes than the lock's, so the line carries the hash given with
`--torch-sha256` or, without one, none; the CUDA libraries and Triton drop out.
"""

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path

_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")
_TORCH_LAYER = re.compile(r"^(torch|triton|nvidia-.+|cuda-.+)$")


def requirement_blocks(lock: str) -> Iterator[tuple[str, str]]:
    """Yields `(name, text)` for each pinned requirement with its hash lines; comments drop out.

    Raises ValueError for a line that is neither a pin `name==version` nor a continuation.
    """
    name, lines = "", list[str]()
    for line in lock.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace():
            if not name:
                raise ValueError(f"the lock starts with a continuation line: {line.strip()!r}")
            lines.append(line)
            continue
        if name:
            yield name, "\n".join(lines) + "\n"
        match = _REQUIREMENT.match(line)
        if match is None:
            raise ValueError(f"not a pinned requirement: {line!r}; compile the lock with hashes")
        name, lines = match["name"].lower(), [line]
    if name:
        yield name, "\n".join(lines) + "\n"


def split_lock(lock: str) -> tuple[str, str]:
    """Returns the lock's `(torch part, other dependencies)`; together they are the whole lock."""
    torch_part, dependencies = "", ""
    for name, text in requirement_blocks(lock):
        if _TORCH_LAYER.match(name):
            torch_part += text
        else:
            dependencies += text
    return torch_part, dependencies


def cpu_torch_requirement(lock: str, sha256: str = "") -> str:
    """Returns the lock's torch pin without the lock's hashes, with `sha256` (hex) if given."""
    for name, text in requirement_blocks(lock):
        if name == "torch":
            pin = text.split()[0]
            return f"{pin} --hash=sha256:{sha256}\n" if sha256 else f"{pin}\n"
    raise ValueError("the lock pins no torch: compile it with the extra `runtime`")


def main() -> None:
    """Writes both files with a fixed mtime: a build cache that looks at it still hits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("lock", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu-torch", action="store_true")
    parser.add_argument("--torch-sha256", default="")
    options = parser.parse_args()
    lock = options.lock.read_text()
    torch_part, dependencies = split_lock(lock)
    if options.cpu_torch:
        torch_part = cpu_torch_requirement(lock, options.torch_sha256)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("torch.txt", torch_part), ("dependencies.txt", dependencies)):
        target = options.folder / name
        target.write_text(text)
        os.utime(target, (0, 0))


if __name__ == "__main__":
    main()
