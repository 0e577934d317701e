"""Node image of our own: built where kind's published one can't be pulled.

It is rebuilt when anything that goes into it changes: its tag is a hash of all inputs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e import versions
from e2e.docker import Engine, load
from e2e.image_archive import Image, layer_of_folder
from e2e.paths import Layout
from e2e.programs import binaries
from e2e.without_docker import control_plane_images, node_rootfs
from e2e.without_docker.engine import this_machine_lacks_sys_resource
from host.errors import ToolError
from host.process import run, succeeds
from host.progress import step


def built_reference() -> str:
    """The name of our own image: its tag hashes what it is made of."""
    tools = [versions.GO_TOOLS[name] for name in versions.NODE_BINARIES]
    modules = sorted({tool.module for tool in tools})
    here = Path(__file__).parent
    files = [
        *(
            path
            for name in modules
            for path in sorted((binaries.tools_folder() / name).rglob("*.*"))
        ),
        *sorted(node_rootfs.manifests_folder().glob("*.yaml")),
        here / "node_rootfs.py",
        here / "control_plane_images.py",
        here.parent / "image_archive.py",
    ]
    packages = (versions.NODE_DEBIAN_SUITE, versions.NODE_DEBIAN_PACKAGES)
    digest = hashlib.sha256(repr((tools, packages, this_machine_lacks_sys_resource())).encode())
    for file in files:
        digest.update(file.read_bytes())
    return f"localhost/octavo-node:{versions.KUBERNETES}-{digest.hexdigest()[:12]}"


def build_node_image(engine: Engine, layout: Layout) -> None:
    """Build `built_reference()` into the engine's store, and remove those of earlier inputs."""
    built = built_reference()
    with step("Build the node image"):
        _build(engine, built, layout)
    _remove_older(engine, built)


def _build(engine: Engine, reference: str, layout: Layout) -> None:
    if os.geteuid() != 0:
        raise ToolError(
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
                raise ToolError("containerd did not start for the node image", log=log)
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
