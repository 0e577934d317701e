"""Bring local images into the cluster: from Docker's store, buildah's, or an archive."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from e2e.docker import Engine
from e2e.paths import Layout
from e2e.registry import container as registry
from host.errors import ToolError
from host.process import run, succeeds
from host.progress import step

_PUSH_SECONDS = 1800


def pod_reference(reference: str, address: str = registry.ADDRESS) -> str:
    """The name under which pods pull a local image: its registry is replaced by ours.

    `docker.io/library/app:1`, `localhost/app:1` and `app:1` become `localhost:5001/app:1`; a
    missing tag becomes `latest`.
    """
    name, digest, _ = reference.partition("@")
    if digest:
        raise ToolError(f"{reference} names a digest; give the image a tag to push it")
    first, slash, rest = name.partition("/")
    looks_like_host = first == "localhost" or "." in first.strip(".") or ":" in first
    has_registry = bool(slash) and looks_like_host
    path = rest if has_registry else name
    path = path.removeprefix("library/") if first in ("docker.io", "index.docker.io") else path
    repository, colon, tag = path.rpartition(":")
    if not colon:
        repository, tag = path, "latest"
    if not re.fullmatch(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*", repository):
        raise ToolError(f"{reference} is not an image's name: {repository!r} is not allowed in one")
    return f"{address}/{repository}:{tag}"


def load_image(reference: str, engine: Engine, layout: Layout) -> str:
    """Push one local image, or every image of an archive's path, and return the pods' name."""
    log = layout.logs / "push.log"
    if Path(reference).is_file():
        reference = _from_archive(Path(reference), engine)
    target = pod_reference(reference)
    with step(f"Push {target}"):
        if engine.has_image(reference):
            registry.push(engine, reference, target, log)
        elif buildah := _buildah_with(reference, layout):
            command = [*buildah, "push", "--tls-verify=false", reference, f"docker://{target}"]
            run(command, log=log, timeout_seconds=_PUSH_SECONDS)
        else:
            raise ToolError(
                f"There is no local image {reference}",
                hint="`docker image ls` and `buildah images` show what there is; "
                "build it first, or name an archive's path.",
            )
    return target


def _from_archive(path: Path, engine: Engine) -> str:
    with step(f"Read {path}"):
        output = engine.call("load", "--input", path, timeout_seconds=_PUSH_SECONDS)
    found = re.search(r"Loaded image: (\S+)", output)
    if found is None:
        raise ToolError(f"{path} holds no image with a name: {output.strip()}")
    return found[1]


def _buildah_with(reference: str, layout: Layout) -> list[str]:
    """The buildah command whose store holds the image: the user's, or the one of `images.build`."""
    buildah = shutil.which("buildah")
    if buildah is None:
        return []
    own = layout.root / "images"
    folders = ["--root", str(own / "storage"), "--runroot", str(own / "run")]
    stores = [[buildah], [buildah, *folders, "--storage-driver", "overlay"]]
    for command in stores:
        if succeeds([*command, "inspect", "--type", "image", reference]):
            return command
    return []
