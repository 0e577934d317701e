"""Container images written as `docker load` archives, without an engine.

A control-plane image is one static binary and a node image one root file system: neither needs a
build. No library in Python writes such archives. The format is the one of `docker save`: layers, one
configuration per image, manifest.json.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from host.errors import ToolError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EPOCH = "1970-01-01T00:00:00Z"
_CHUNK_BYTES = 1 << 20
_GZIP_LEVEL = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's tar in a file, plain or gzipped; `digest` is the SHA-256 in hexadecimal of the plain
    bytes."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image of layers, lowest first; `config` is the `config` part of its configuration."""

    references: tuple[str, ...]
    layers: tuple[Layer, ...]
    config: dict[str, object] = field(default_factory=dict)

    def configuration(self) -> bytes:
        """The image's configuration as JSON; its SHA-256 is the image's id."""
        document = {
            "architecture": go_architecture(platform.machine()),
            "os": "linux",
            "created": _EPOCH,
            "config": {"Env": [f"PATH={DEFAULT_PATH}"], **self.config},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{x.digest}" for x in self.layers]},
            "history": [{"created": _EPOCH} for _ in self.layers],
        }
        return json.dumps(document, sort_keys=True).encode()


def go_architecture(machine: str) -> str:
    """The architecture's name in images, from the kernel's: x86_64 becomes amd64."""
    names = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "amd64": "amd64"}
    if machine not in names:
        raise ToolError(f"The architecture {machine} is not supported, only x86_64 and aarch64")
    return names[machine]


def layer_of_folder(folder: Path, target: Path, *, is_compressed: bool = False) -> Layer:
    """Pack a folder with its owners, links and extended attributes, hashing as it is written.

    A compressed layer suits an archive that is kept as it is; an engine unpacks what it loads.
    """
    command = ["tar", "--create", "--directory", str(folder), "--numeric-owner", "--xattrs"]
    command += ["--sort=name", "--mtime=@0"]
    # Times of access and the packer's pid would give the same folder another digest each time.
    command += ["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "."]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    digest = hashlib.sha256()
    with target.open("wb") as file, _writer(file, is_compressed=is_compressed) as writer:
        while chunk := process.stdout.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
    if process.wait() != 0:
        raise ToolError(f"tar could not pack {folder}: status {process.returncode}")
    return Layer(target, digest.hexdigest())


@contextmanager
def _writer(file: IO[bytes], *, is_compressed: bool) -> Iterator[IO[bytes]]:
    if not is_compressed:
        yield file
        return
    with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as compressed:
        yield cast("IO[bytes]", compressed)


def write_archive(stream: IO[bytes], images: Sequence[Image]) -> None:
    """Write the images to a binary stream, each layer once however many images share it."""
    manifest = []
    written: set[str] = set()
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for image in images:
            configuration = image.configuration()
            name = f"{hashlib.sha256(configuration).hexdigest()}.json"
            if name not in written:
                _add_bytes(archive, name, configuration)
                written.add(name)
            for layer in image.layers:
                if layer.digest not in written:
                    archive.add(layer.path, _layer_name(layer), filter=_plain)
                    written.add(layer.digest)
            manifest.append(
                {
                    "Config": name,
                    "RepoTags": list(image.references),
                    "Layers": [_layer_name(layer) for layer in image.layers],
                }
            )
        _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())


def _layer_name(layer: Layer) -> str:
    return f"{layer.digest}.tar"


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry
