"""Docker's command line, as clusters use it: an engine that answers, whoever started it.

The command line, not Docker's Python client: a bare Python takes clusters down.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from e2e.image_archive import Image, write_archive
from host.errors import ToolError
from host.process import run, succeeds
from host.progress import say, step

NETWORK = "kind"
"""kind's own name for it."""
BRIDGE = "octavo-kind"
"""The network's bridge on the machine, where the engine is ours."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker engine that answers; `environment` makes docker and kind talk to it."""

    docker: str
    is_ours: bool
    environment: Mapping[str, str] = field(repr=False)

    def call(
        self,
        *arguments: str | Path,
        stdin: str | None = None,
        log: Path | None = None,
        timeout_seconds: float | None = 600,
    ) -> str:
        """Run `docker ARGUMENTS…` and return what it prints."""
        return run(
            [self.docker, *arguments],
            env=self.environment,
            stdin=stdin,
            log=log,
            timeout_seconds=timeout_seconds,
        )

    def has_image(self, reference: str) -> bool:
        """Whether the engine's store holds the image."""
        return succeeds([self.docker, "image", "inspect", reference], env=self.environment)

    def pull(self, reference: str, timeout_seconds: float = 600) -> bool:
        """Pull the image unless it is there; False when it can't be had in time.

        Where no registry can be reached the engine gives up by itself within seconds.
        """
        if self.has_image(reference):
            return True
        command = [self.docker, "pull", "--quiet", reference]
        name = reference.partition("@")[0]
        with step(f"Try to pull {name}"):
            pulled = succeeds(command, env=self.environment, timeout_seconds=timeout_seconds)
        if not pulled:
            say(f"{name} can't be pulled here")
        return pulled


def users_engine() -> Engine | None:
    """The Docker that the user's command line reaches, if any. `OCTAVO_ENGINE=own` ignores it."""
    docker = shutil.which("docker")
    if docker is None or os.environ.get("OCTAVO_ENGINE") == "own":
        return None
    reached = succeeds([docker, "version", "--format", "{{.Server.Version}}"], timeout_seconds=10)
    return Engine(docker, is_ours=False, environment=dict(os.environ)) if reached else None


def ensure_network(engine: Engine) -> None:
    """The network that kind would create; ours is made first, so that its bridge has our name."""
    if not engine.is_ours or succeeds(
        [engine.docker, "network", "inspect", NETWORK], env=engine.environment
    ):
        return
    bridge = f"com.docker.network.bridge.name={BRIDGE}"
    engine.call("network", "create", "--driver", "bridge", "--opt", bridge, NETWORK)


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
        raise ToolError(f"The engine did not load {image.references[0]}")
