"""Buildah. Builds without any daemon: buildah with chroot isolation and an image store of our own.

Nothing runs after a build and nothing stays mounted: each call has a private mount namespace, the
store lives under `$OCTAVO_CACHE/images`, and containers that an interrupted build left are removed
by the next.
"""

import ipaddress
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from host.errors import ToolError
from host.process import run, run_visibly, succeeds
from host.system import install_packages, privately_mounted
from images import paths
from images.request import PULL_SECONDS, BuildRequest

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STAGE_REPOSITORY = "localhost/octavo-stage"
UV_CACHE_INSIDE = "/var/cache/uv"


class Buildah:
    """A private buildah store; needs root, since chroot isolation mounts and changes owners."""

    name = "buildah (chroot isolation, no daemon)"

    run_environment: Mapping[str, str] = MappingProxyType({"UV_CACHE_DIR": UV_CACHE_INSIDE})

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or paths.images_folder()

    def prepare(self) -> None:
        """Installs buildah if it may, and removes what an interrupted build left."""
        if os.geteuid() != 0:
            raise ToolError(
                "no Docker daemon answers and building without one needs root: start Docker, or "
                "run as root"
            )
        install_packages("buildah")
        for left in self._folder.glob("build-*"):
            shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._quietly("rm", "--all")

    def image_id(self, reference: str) -> str | None:
        """Returns the image's id (hex), None if it isn't in the store."""
        found = self._inspect(reference)
        return str(found["FromImageID"]) if found else None

    def pull(self, reference: str) -> bool:
        """Tries to pull, once; where no registry is in reach that fails soon, or at the limit."""
        command = self._command("pull", "--quiet", "--retry", "1", "--policy", "missing", reference)
        return succeeds(command, env=self._environment(), timeout_seconds=PULL_SECONDS)

    def import_root(self, tar: Path, reference: str) -> None:
        """Unpacks the tar into one layer and commits it."""
        container = self._output("from", "scratch").strip()
        try:
            self._run("add", "--quiet", container, str(tar), "/")
            self._run("config", "--cmd", '["python3"]', "--env", f"PATH={DEFAULT_PATH}", container)
            self._run("commit", "--quiet", container, reference)
        finally:
            self._quietly("rm", container)

    def build(self, request: BuildRequest) -> None:
        """Runs `buildah build` with its layer cache.

        A stage that nothing descends from would lose its cache to `prune`: kept stages get a name.
        """
        image = request.reference.rpartition(":")[0].rpartition("/")[2]
        for stage in request.kept_stages:
            name = f"{STAGE_REPOSITORY}:{image}-{stage}"
            self._run(*_build_arguments(request), "--target", stage, "--tag", name, request.context)
        self._run(*_build_arguments(request), "--tag", request.reference, request.context)

    def tags(self, repository: str) -> list[str]:
        """Returns the repository's references, newest first."""
        newest = sorted(self._images(), key=lambda image: int(image["created"]), reverse=True)
        return [
            name
            for image in newest
            for name in image.get("names") or ()
            if name.rpartition(":")[0] == repository
        ]

    def remove(self, reference: str) -> None:
        """Removes a name and the layers that only it held."""
        self._quietly("rmi", reference)

    def prune(self) -> None:
        """Removes unnamed images without children; cached layers of named images are parents."""
        self._quietly("rmi", "--prune")

    def size(self, reference: str) -> int:
        """Returns the sum of the image's uncompressed layers in bytes."""
        found = self._inspect(reference)
        if found is None:
            raise ToolError(f"{reference} is not in the image store")
        manifest = json.loads(found["Manifest"])
        return sum(int(layer["size"]) for layer in manifest["layers"])

    def push(self, reference: str, destination: str) -> None:
        """Pushes with zstd, the quickest to make and to unpack; a local registry has no TLS."""
        verify = "false" if is_local_registry(destination) else "true"
        command = ["push", "--quiet", "--format", "oci", "--compression-format", "zstd"]
        command += ["--compression-level", "3", f"--tls-verify={verify}"]
        self._run(*command, reference, f"docker://{destination}")

    @property
    def _temporary(self) -> Path:
        return self._folder / "tmp"

    def _command(self, *arguments: str) -> list[str]:
        store = ["--root", str(self._folder / "storage"), "--runroot", str(self._folder / "run")]
        driver = ["--storage-driver", "overlay"]
        return [*privately_mounted(), "buildah", *store, *driver, *arguments]

    def _environment(self) -> Mapping[str, str]:
        return dict(os.environ, TMPDIR=str(self._temporary), BUILDAH_ISOLATION="chroot")

    def _run(self, *arguments: str | Path) -> None:
        run_visibly(self._command(*map(str, arguments)), env=self._environment())

    def _output(self, *arguments: str) -> str:
        return run(self._command(*arguments), env=self._environment())

    def _quietly(self, *arguments: str) -> bool:
        command = self._command(*arguments)
        return succeeds(command, env=self._environment(), timeout_seconds=None)

    def _images(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._output("images", "--json") or "[]")
        return found

    def _inspect(self, reference: str) -> dict[str, Any] | None:
        command = ("inspect", "--type", "image", reference)
        if not self._quietly(*command):
            return None
        found: dict[str, Any] = json.loads(self._output(*command))
        return found


def _build_arguments(request: BuildRequest) -> list[str]:
    command = ["build", "--isolation", "chroot", "--layers", "--format", "oci", "--pull=never"]
    command += ["--file", str(request.containerfile)]
    for name, value in request.arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for secret, path in request.secrets.items():
        command += ["--secret", f"id={secret},src={path}"]
    return [*command, "--volume", f"{uv_cache()}:{UV_CACHE_INSIDE}"]


def uv_cache() -> Path:
    """Returns the host's uv cache, so that a wheel that is here is not downloaded again."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("UV_CACHE_DIR") or Path(caches) / "uv")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_local_registry(destination: str) -> bool:
    """Tells whether an image name's registry is this machine or a private network's address."""
    host = destination.partition("/")[0].rpartition(":")[0] or destination.partition("/")[0]
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or address.is_private
