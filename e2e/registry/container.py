"""Registry that brings images in: `localhost:5001` here, on every node and in every pod spec.

It is a container on the cluster's network, published on 127.0.0.1 alone. Layers travel once: after
a change of our code only the top layer is pushed and pulled. Old tags are removed when the data
outgrow a bound.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from e2e import docker, versions
from e2e.docker import Engine, load
from e2e.image_archive import Image, layer_of_folder
from e2e.paths import Layout
from e2e.programs import binaries
from host.errors import ToolError
from host.process import run, succeeds
from host.progress import say, step
from host.system import disk_use
from images.registry import CLUSTER_REGISTRY, CLUSTER_REGISTRY_PORT, cluster_registry_answers

PORT = CLUSTER_REGISTRY_PORT
ADDRESS = CLUSTER_REGISTRY
CONTAINER = "octavo-registry"
LARGEST_BYTES = 3_500_000_000
"""One runtime image is 2.7 GB: a second one's torch layer is garbage as soon as no kept tag has it."""
KEPT_TAGS = 2
_IMAGE = f"localhost/octavo-registry:{versions.REGISTRY}"
_START_SECONDS = 30
_CONFIGURATION = """\
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: /var/lib/registry}
  delete: {enabled: true}
http: {addr: ":5000"}
"""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag in the registry's data; `written_at` in seconds since 1970."""

    repository: str
    name: str
    written_at: float


def ensure_registry(engine: Engine, layout: Layout) -> None:
    """Start the registry if it does not run, and check that it answers."""
    docker.ensure_network(engine)
    if cluster_registry_answers():
        if not exists(engine):
            raise ToolError(
                f"Something else answers as a registry on {ADDRESS}",
                hint=f"Stop what listens on port {PORT}; `ss -ltnp` names it.",
            )
        return
    with step(f"Start the registry {ADDRESS}"):
        succeeds([engine.docker, "rm", "--force", CONTAINER], env=engine.environment)
        image = _image(engine, layout)
        data = layout.registry / "data"
        data.mkdir(parents=True, exist_ok=True)
        configuration = layout.registry / "config.yml"
        configuration.write_text(_CONFIGURATION)
        command = ["run", "--detach", "--name", CONTAINER, "--network", docker.NETWORK]
        command += ["--restart", "unless-stopped", "--publish", f"127.0.0.1:{PORT}:5000"]
        command += ["--user", f"{os.getuid()}:{os.getgid()}", "--read-only", "--cap-drop", "ALL"]
        command += ["--volume", f"{data}:/var/lib/registry"]
        command += ["--volume", f"{configuration}:/etc/octavo/config.yml:ro"]
        engine.call(*command, "--entrypoint", "registry", image, "serve", "/etc/octavo/config.yml")
        deadline = time.monotonic() + _START_SECONDS
        while not cluster_registry_answers():
            if time.monotonic() > deadline:
                logs = engine.call("logs", CONTAINER)
                raise ToolError(f"The registry does not answer on {ADDRESS}:\n{logs}")
            time.sleep(0.2)


def exists(engine: Engine) -> bool:
    """Whether the registry's container is there, running or not."""
    return succeeds([engine.docker, "inspect", CONTAINER], env=engine.environment)


def is_running(engine: Engine) -> bool:
    """Whether the registry's container runs and answers."""
    return exists(engine) and cluster_registry_answers()


def port_is_taken() -> bool:
    """Whether something listens where the registry will."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def remove_registry(engine: Engine) -> bool:
    """Stop the registry, and tell whether there was one; what was pushed stays in the cache."""
    if not exists(engine):
        return False
    engine.call("rm", "--force", CONTAINER)
    return True


def teach_nodes(engine: Engine, nodes: list[str]) -> None:
    """Tell each node's containerd where `localhost:5001` is for it."""
    folder = f"/etc/containerd/certs.d/{ADDRESS}"
    hosts = f'[host."http://{CONTAINER}:5000"]\n'
    for node in nodes:
        write = ["install", "-D", "--mode=0644", "/dev/stdin", f"{folder}/hosts.toml"]
        engine.call("exec", "--interactive", node, *write, stdin=hosts)


def data_bytes(layout: Layout) -> int:
    """What the registry's data take on disk."""
    return disk_use(layout.registry / "data")


def tags_to_remove(tags: list[Tag], kept: int = KEPT_TAGS) -> list[Tag]:
    """All but each repository's `kept` newest tags."""
    removed = []
    for repository in sorted({tag.repository for tag in tags}):
        own = [tag for tag in tags if tag.repository == repository]
        removed += sorted(own, key=lambda tag: tag.written_at, reverse=True)[kept:]
    return removed


def collect_garbage(engine: Engine, layout: Layout, largest_bytes: int = LARGEST_BYTES) -> None:
    """Remove old tags and what only they need, if the data are larger than the bound."""
    before = data_bytes(layout)
    if before <= largest_bytes:
        return
    with step("Remove old images from the registry"):
        for tag in tags_to_remove(_tags(layout)):
            shutil.rmtree(_tags_folder(layout, tag.repository) / tag.name)
        command = ["registry", "garbage-collect", "--delete-untagged", "/etc/octavo/config.yml"]
        engine.call("exec", CONTAINER, *command)
        say(f"{(before - data_bytes(layout)) / 1e9:.1f} GB freed")


def _tags(layout: Layout) -> list[Tag]:
    root = layout.registry / "data/docker/registry/v2/repositories"
    return [
        Tag(str(link.parents[4].relative_to(root)), link.parents[1].name, link.stat().st_mtime)
        for link in root.glob("**/_manifests/tags/*/current/link")
    ]


def _tags_folder(layout: Layout, repository: str) -> Path:
    root = layout.registry / "data/docker/registry/v2/repositories"
    return root / repository / "_manifests/tags"


def _image(engine: Engine, layout: Layout) -> str:
    """The published registry where it can be pulled, else one static binary as an image."""
    if engine.has_image(_IMAGE):
        return _IMAGE
    if engine.pull(versions.PUBLISHED_REGISTRY_IMAGE):
        return versions.PUBLISHED_REGISTRY_IMAGE
    binary = binaries.go_tool("registry", layout)
    work = layout.registry / "image"
    shutil.rmtree(work, ignore_errors=True)
    (work / "root/bin").mkdir(parents=True)
    shutil.copy2(binary, work / "root/bin/registry")
    load(engine, Image((_IMAGE,), (layer_of_folder(work / "root", work / "layer.tar"),)))
    shutil.rmtree(work)
    return _IMAGE


def push(engine: Engine, reference: str, target: str, log: Path) -> None:
    """Push an image of the engine's store under the registry's name `target`."""
    engine.call("tag", reference, target)
    try:
        engine.call("push", target, log=log, timeout_seconds=1800)
    finally:
        run([engine.docker, "image", "rm", target], env=engine.environment)
