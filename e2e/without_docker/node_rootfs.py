"""Root file system of a node that we build ourselves: a minimal Debian that kind can start.

What kind's own Dockerfile does on top of a Debian base is done here on a bootstrapped one, with
kind's own files out of its Go module.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from e2e import versions
from e2e.paths import Layout
from e2e.programs import binaries
from e2e.without_docker import engine
from host import debootstrap
from host.errors import ToolError
from host.process import run

_IN_USR_LOCAL_BIN = ("containerd", "containerd-shim-runc-v2", "ctr", "crictl")
_IN_USR_BIN = ("kubelet", "kubectl", "kubeadm")
_UNWANTED = (
    "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*",
    "usr/share/doc/*",
    "usr/share/man/*",
    "usr/share/locale/*",
    # kind starts only its own services
    "usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "usr/lib/systemd/system/multi-user.target.wants/*",
    "usr/lib/systemd/system/local-fs.target.wants/*",
    "usr/lib/systemd/system/sockets.target.wants/*udev*",
    "usr/lib/systemd/system/sockets.target.wants/*initctl*",
    "usr/lib/systemd/system/basic.target.wants/*",
    "etc/systemd/system/*.wants/*",
)


def bootstrap(root: Path, layout: Layout) -> None:
    """A minimal Debian at `root` with the packages of a node. Takes about a minute."""
    debootstrap.bootstrap(
        root,
        versions.NODE_DEBIAN_SUITE,
        versions.NODE_DEBIAN_PACKAGES,
        cache=layout.debian,
        log=layout.logs / "debootstrap.log",
    )


def manifests_folder() -> Path:
    """The Kubernetes manifests that a node of our own brings along."""
    return Path(__file__).parent / "manifests"


def turn_into_node(root: Path, layout: Layout) -> None:
    """Everything between a minimal Debian and kind's node image, except the preloaded images."""
    for pattern in _UNWANTED:
        for found in root.glob(pattern):
            shutil.rmtree(found) if found.is_dir() and not found.is_symlink() else found.unlink()
    _copy_kind_files(root, layout)
    _install_binaries(root, layout)
    _configure_systemd(root)
    _configure_containerd(root)
    _configure_kubelet(root)
    manifests = root / "kind/manifests"
    manifests.mkdir(parents=True, exist_ok=True)
    for name in ("default-cni.yaml", "default-storage.yaml"):
        shutil.copyfile(manifests_folder() / name, manifests / name)
    (root / "kind/version").write_text(versions.KUBERNETES)
    (root / "etc/hostname").write_text("kind\n")
    for name in ("etc/resolv.conf", "etc/apt/sources.list"):
        (root / name).unlink(missing_ok=True)
    (root / "etc/resolv.conf").touch()  # Docker mounts its own here


def in_root(root: Path, *command: str) -> str:
    """Run a program of the new system inside it."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
    return run(["chroot", root, *command], env={"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"})


def _copy_kind_files(root: Path, layout: Layout) -> None:
    module = f"sigs.k8s.io/kind@{versions.KIND}"
    source = binaries.module_folder("kind", module, layout) / "images/base/files"
    for path in sorted(source.rglob("*")):
        target = root / path.relative_to(source)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        shutil.copyfile(path, target)
        is_program = path.parent.name == "bin"
        target.chmod(0o755 if is_program else 0o644)


def _install_binaries(root: Path, layout: Layout) -> None:
    for folder, names in (("usr/local/bin", _IN_USR_LOCAL_BIN), ("usr/bin", _IN_USR_BIN)):
        for name in names:
            shutil.copyfile(binaries.go_tool(name, layout), root / folder / name)
            (root / folder / name).chmod(0o755)
    plugins = root / "opt/cni/bin"
    plugins.mkdir(parents=True, exist_ok=True)
    for name in ("host-local", "loopback", "portmap", "ptp"):
        shutil.copy2(root / "usr/lib/cni" / name, plugins / name)


def _configure_systemd(root: Path) -> None:
    init = root / "usr/sbin/init"
    init.unlink(missing_ok=True)
    init.symlink_to("/usr/lib/systemd/systemd")
    with (root / "etc/systemd/journald.conf").open("a") as file:
        file.write("ReadKMsg=no\n")
    units = ["kubelet.service", "containerd.service", "undo-mount-hacks.service"]
    in_root(root, "systemctl", "enable", *units)
    in_root(root, "systemctl", "mask", "systemd-binfmt.service")
    for folder in ("etc/kubernetes/manifests", "etc/cni/net.d"):
        (root / folder).mkdir(parents=True, exist_ok=True)


def _configure_containerd(root: Path) -> None:
    # As in kind's Dockerfile: show each pod the node's own product files, limit nothing.
    hook = '.hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}]'
    script = f"ctr oci spec | jq '{hook} | del(.process.rlimits)'"
    (root / "etc/containerd/cri-base.json").write_text(in_root(root, "sh", "-c", script))
    configuration = root / "etc/containerd/config.toml"
    text = configuration.read_text()
    wanted = "restrict_oom_score_adj = false"
    if wanted not in text or "discard_unpacked_layers = true" not in text:
        raise ToolError(
            f"kind {versions.KIND} brings a containerd configuration that we do not know"
        )
    if engine.this_machine_lacks_sys_resource():
        configuration.write_text(text.replace(wanted, "restrict_oom_score_adj = true"))


def _configure_kubelet(root: Path) -> None:
    arguments = ["--runtime-cgroups=/system.slice/containerd.service", "--fail-cgroupv1=false"]
    if engine.this_machine_lacks_sys_resource():
        arguments.append("--oom-score-adj=0")
    (root / "etc/default/kubelet").write_text(f"KUBELET_EXTRA_ARGS={' '.join(arguments)}\n")
