"""The image that kind makes nodes of: the published one where it can be pulled, else our own.

Ours is rebuilt when anything that goes into it changes: its tag is a hash of all inputs.
`OCTAVO_NODE_IMAGE` forces the choice: `auto` (default), `published` or `built`.
"""

from __future__ import annotations

import enum
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import binaries, control_plane_images, node_rootfs, versions
from e2e.cluster.engine import Engine, this_machine_lacks_sys_resource
from e2e.cluster.errors import ClusterError
from e2e.cluster.image_archive import Image, layer_of_folder, write_archive
from e2e.cluster.paths import Layout, manifests_folder, tools_folder
from e2e.cluster.process import run, succeeds
from e2e.cluster.progress import step

_PULL_SECONDS = 900


class NodeImageSource(enum.Enum):
    """Where the node image comes from."""

    AUTO = "auto"
    PUBLISHED = "published"
    BUILT = "built"


@dataclass(frozen=True, slots=True)
class NodeImage:
    """An image in the engine's store. Our own does not enforce NetworkPolicy."""

    reference: str
    is_published: bool


def wanted_source() -> NodeImageSource:
    """What `OCTAVO_NODE_IMAGE` asks for."""
    value = os.environ.get("OCTAVO_NODE_IMAGE", NodeImageSource.AUTO.value)
    try:
        return NodeImageSource(value)
    except ValueError:
        allowed = ", ".join(source.value for source in NodeImageSource)
        raise ClusterError(f"OCTAVO_NODE_IMAGE is {value!r}; it must be one of {allowed}") from None


def built_reference() -> str:
    """The name of our own image: its tag hashes what it is made of."""
    tools = [versions.GO_TOOLS[name] for name in versions.NODE_BINARIES]
    modules = sorted({tool.module for tool in tools})
    here = Path(__file__).parent
    files = [
        *(path for name in modules for path in sorted((tools_folder() / name).rglob("*.*"))),
        *sorted(manifests_folder().glob("default-*.yaml")),
        here / "node_rootfs.py",
        here / "control_plane_images.py",
        here / "image_archive.py",
    ]
    packages = (versions.NODE_DEBIAN_SUITE, versions.NODE_DEBIAN_PACKAGES)
    digest = hashlib.sha256(repr((tools, packages, this_machine_lacks_sys_resource())).encode())
    for file in files:
        digest.update(file.read_bytes())
    return f"localhost/octavo-node:{versions.KUBERNETES}-{digest.hexdigest()[:12]}"


def ensure_node_image(engine: Engine, layout: Layout) -> NodeImage:
    """The image in the engine's store, pulled or built if it is not there."""
    source = wanted_source()
    built = built_reference()
    if source is not NodeImageSource.PUBLISHED and engine.has_image(built):
        return NodeImage(built, is_published=False)
    if source is not NodeImageSource.BUILT:
        published = versions.PUBLISHED_NODE_IMAGE
        if engine.pull(published, _PULL_SECONDS):
            return NodeImage(published, is_published=True)
        if source is NodeImageSource.PUBLISHED:
            raise ClusterError(
                f"{published} can't be pulled",
                hint="Let Docker reach docker.io, or unset OCTAVO_NODE_IMAGE to build the image.",
            )
    with step("Build the node image"):
        _build(engine, built, layout)
    _remove_older(engine, built)
    return NodeImage(built, is_published=False)


def _build(engine: Engine, reference: str, layout: Layout) -> None:
    if os.geteuid() != 0:
        raise ClusterError(
            "No node image can be pulled, and building one needs root",
            hint="Let Docker reach docker.io, or run this as root on Debian or Ubuntu.",
        )
    for binary in versions.NODE_BINARIES:
        binaries.go_tool(binary, layout)
    work = layout.node_image
    shutil.rmtree(work, ignore_errors=True)
    root, images = work / "root", work / "control-plane"
    images.mkdir(parents=True)
    with step(f"Bootstrap Debian {versions.NODE_DEBIAN_SUITE}"):
        node_rootfs.bootstrap(root, layout)
    with step("Turn it into a node"):
        node_rootfs.turn_into_node(root, layout)
    with step("Put the control plane's images into it"):
        archive = work / "control-plane.tar"
        control_plane_images.write_images(root, images, archive, layout)
        _preload(root, archive, layout)
        shutil.rmtree(images)
        archive.unlink()
    with step("Load it into the engine"):
        layer = layer_of_folder(root, work / "layer.tar")
        config: dict[str, object] = {
            "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
            "Env": [
                "container=docker",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ],
            "StopSignal": "SIGRTMIN+3",  # what systemd takes for "power off"
        }
        load(engine, Image((reference,), (layer,), config))
    shutil.rmtree(work)


def load(engine: Engine, image: Image) -> None:
    """Stream an image into the engine's store."""
    process = subprocess.Popen(
        [engine.docker, "load", "--quiet"],
        env=dict(engine.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    with process.stdin:
        write_archive(process.stdin, [image])
    if process.wait() != 0:
        raise ClusterError(f"The engine did not load {image.references[0]}")


def _preload(root: Path, archive: Path, layout: Layout) -> None:
    """Import the archive into the node's containerd store, without unpacking, as kind does."""
    with _containerd(root / "var/lib/containerd", layout) as address:
        ctr = binaries.go_tool("ctr", layout)
        command: list[str | Path] = [
            ctr,
            "--address",
            address,
            "--namespace",
            "k8s.io",
            "images",
            "import",
        ]
        command += ["--label=io.cri-containerd.pinned=pinned", "--no-unpack", "--digests", archive]
        run(command, log=layout.logs / "node-image.log")


@contextmanager
def _containerd(store: Path, layout: Layout) -> Iterator[Path]:
    """A containerd of our own that keeps its content in `store`."""
    state = layout.node_image / "state"
    address = state / "containerd.sock"
    state.mkdir(parents=True)
    disabled = [
        "io.containerd.cri.v1.images",
        "io.containerd.cri.v1.runtime",
        "io.containerd.grpc.v1.cri",
        "io.containerd.internal.v1.tracing",
        "io.containerd.nri.v1.nri",
    ]
    configuration = layout.node_image / "containerd.toml"
    configuration.write_text(
        f'version = 3\nroot = "{store}"\nstate = "{state}"\ndisabled_plugins = {disabled}\n'
        f'[grpc]\naddress = "{address}"\n'
    )
    log = layout.logs / "containerd-import.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    containerd = binaries.go_tool("containerd", layout)
    with log.open("w") as output:
        process = subprocess.Popen(
            [containerd, "--config", configuration], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        ctr = binaries.go_tool("ctr", layout)
        deadline = time.monotonic() + 30
        while not succeeds([ctr, "--address", address, "version"]):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ClusterError("containerd did not start for the node image", log=log)
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def _remove_older(engine: Engine, current: str) -> None:
    """Images of earlier inputs are a gigabyte each; one in use is kept by the engine itself."""
    listed = engine.call("image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
    for reference in listed.split():
        if reference.startswith("localhost/octavo-node:") and reference != current:
            succeeds([engine.docker, "image", "rm", reference], env=engine.environment)
