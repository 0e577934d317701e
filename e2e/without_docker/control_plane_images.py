"""Images of the control plane, each one static binary, under the names that kubeadm asks for.

Compressed: every node of every cluster keeps its own copy of the archive's layers.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from e2e import versions
from e2e.image_archive import Image, layer_of_folder, write_archive
from e2e.paths import Layout
from e2e.programs import binaries
from e2e.without_docker.node_rootfs import in_root

_REGISTRY = "registry.k8s.io"
_IPTABLES = ("iptables", "iptables-save", "iptables-restore")
NODE_AGENT_IMAGE = f"localhost/octavo-node-agent:{versions.OWN}"


def write_images(rootfs: Path, work: Path, target: Path, layout: Layout) -> None:
    """Write all of them into one archive; kube-proxy's iptables comes out of `rootfs`."""
    images = []
    for binary in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        reference = f"{_REGISTRY}/{binary}:{versions.KUBERNETES}"
        images.append(_static(binary, (reference,), work, layout))
    etcd = f"{_REGISTRY}/etcd:{versions.ETCD_IMAGE_TAG}"
    images.append(_static("etcd", (etcd,), work, layout))
    coredns = f"{_REGISTRY}/coredns/coredns:{versions.COREDNS}"
    entrypoint: dict[str, object] = {"Entrypoint": ["/usr/local/bin/coredns"]}
    images.append(_static("coredns", (coredns,), work, layout, entrypoint))
    pause = tuple(f"{_REGISTRY}/pause:{tag}" for tag in versions.PAUSE_IMAGE_TAGS)
    held: dict[str, object] = {"Entrypoint": ["/usr/local/bin/pause"], "User": "65535:65535"}
    images.append(_static("pause", pause, work, layout, held))
    proxy = f"{_REGISTRY}/kube-proxy:{versions.KUBERNETES}"
    images.append(_with_iptables("kube-proxy", proxy, rootfs, work, layout))
    images.append(_with_iptables("nodeagent", NODE_AGENT_IMAGE, rootfs, work, layout))
    with target.open("wb") as stream:
        write_archive(stream, images)


def _static(
    binary: str,
    references: tuple[str, ...],
    work: Path,
    layout: Layout,
    config: dict[str, object] | None = None,
) -> Image:
    folder = _folder_with(binary, work, layout)
    layer = layer_of_folder(folder, work / f"{binary}.tar", is_compressed=True)
    return Image(references, (layer,), config or {})


def _with_iptables(binary: str, reference: str, rootfs: Path, work: Path, layout: Layout) -> Image:
    folder = _folder_with(binary, work, layout)
    for name in ("bin", "sbin", "lib", "lib64"):
        (folder / "usr" / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(f"usr/{name}")
    for name in ("run", "etc"):
        (folder / name).mkdir()
    plugins = next((rootfs / "usr/lib").glob("*/xtables"))
    shutil.copytree(plugins, folder / plugins.relative_to(rootfs), symlinks=True)
    programs = ["usr/sbin/xtables-nft-multi", "usr/sbin/nft"]
    for program in programs:
        shutil.copy2(rootfs / program, folder / program)
    for name in (*_IPTABLES, *(f"ip6{name[2:]}" for name in _IPTABLES)):
        (folder / "usr/sbin" / name).symlink_to("xtables-nft-multi")
    needing = [f"/{program}" for program in programs]
    needing += [f"/{plugin.relative_to(rootfs)}" for plugin in plugins.glob("*.so")]
    for library in libraries_in(in_root(rootfs, "ldd", *needing)):
        source = (rootfs / library.lstrip("/")).resolve()
        target = folder / "usr" / library.lstrip("/").removeprefix("usr/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(_inside(source, rootfs), target)
            target.chmod(0o755)
    layer = layer_of_folder(folder, work / f"{binary}.tar", is_compressed=True)
    return Image((reference,), (layer,))


def libraries_in(ldd_output: str) -> list[str]:
    """The libraries' paths that `ldd` tells, sorted, each once."""
    return sorted(set(re.findall(r"(?:=> |^\s+)(/\S+\.so\S*) \(0x", ldd_output, re.MULTILINE)))


def _inside(path: Path, rootfs: Path) -> Path:
    """`path` if it lies in the new system; an absolute link is followed within it."""
    return path if path.is_relative_to(rootfs) else rootfs / str(path).lstrip("/")


def _folder_with(binary: str, work: Path, layout: Layout) -> Path:
    folder = work / binary
    (folder / "usr/local/bin").mkdir(parents=True)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    target = folder / "usr/local/bin" / binary
    os.link(binaries.go_tool(binary, layout), target)
    return folder
