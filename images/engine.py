"""Container engine. What the builder asks of a container engine, and which engine it takes."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from host.errors import ToolError
from host.progress import say
from images.buildah import Buildah
from images.docker import Docker
from images.request import BuildRequest


class EngineChoice(StrEnum):
    """The values of `--engine`."""

    AUTO = "auto"
    DOCKER = "docker"
    BUILDAH = "buildah"


class Engine(Protocol):
    """A store of images that can build, name and push them."""

    @property
    def name(self) -> str:
        """The engine's name for people."""

    @property
    def run_environment(self) -> Mapping[str, str]:
        """What the RUN steps need to know of this engine's mounts."""

    def prepare(self) -> None:
        """Makes the engine ready; raises ToolError with what is missing."""

    def image_id(self, reference: str) -> str | None:
        """Returns the content id of an image in the store, None if it isn't there."""

    def pull(self, reference: str) -> bool:
        """Tries to bring an image in from its registry; tells whether it is here now."""

    def import_root(self, tar: Path, reference: str) -> None:
        """Makes a one-layer image of a root file system's tar."""

    def build(self, request: BuildRequest) -> None:
        """Builds and names an image; layers that did not change are taken from the last build."""

    def tags(self, repository: str) -> list[str]:
        """Returns the references of a repository's images, newest first."""

    def remove(self, reference: str) -> None:
        """Forgets a name; content that no other name needs goes with it."""

    def prune(self) -> None:
        """Frees what no name and no kept layer needs."""

    def size(self, reference: str) -> int:
        """Returns the image's uncompressed size in bytes."""

    def push(self, reference: str, destination: str) -> None:
        """Sends an image to `destination`, `host:port/repository:tag`."""


def choose_engine(choice: EngineChoice) -> Engine:
    """Returns a ready engine: a Docker daemon with BuildKit if one answers, otherwise buildah.

    Raises ToolError when the wanted one can't work here.
    """
    if choice is not EngineChoice.BUILDAH:
        obstacle = Docker.obstacle()
        if obstacle is None:
            return _ready(Docker())
        if choice is EngineChoice.DOCKER:
            raise ToolError(f"--engine docker: {obstacle}")
        say(f"Engine: not docker ({obstacle})")
    return _ready(Buildah())


def _ready(engine: Engine) -> Engine:
    engine.prepare()
    say(f"Engine: {engine.name}")
    return engine
