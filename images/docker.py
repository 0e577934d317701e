"""Docker. Builds with a Docker daemon that runs already, through its command line.

Docker's Python client does not speak BuildKit, whose secrets and cache mounts the Containerfiles need.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from host.process import run, run_visibly, succeeds
from images.request import PULL_SECONDS, BuildRequest

# The first docker command whose BuildKit builds need the buildx plugin.
_BUILDX_SINCE = 23


class Docker:
    """The Docker that the user's `docker` command talks to."""

    name = "docker"
    run_environment: Mapping[str, str] = MappingProxyType({})

    @staticmethod
    def obstacle() -> str | None:
        """Tells why Docker can't build here, or None if it can.

        The Containerfiles need BuildKit: build secrets and cache mounts are not in the old builder.
        """
        if not succeeds(["docker", "version"]):
            return "no daemon answers the docker command"
        if _front_end() is None:
            return "the docker command lacks buildx, BuildKit's front end"
        return None

    def prepare(self) -> None:
        """Nothing to do: the daemon answered."""

    def image_id(self, reference: str) -> str | None:
        """Returns the image's id (`sha256:…`), None if it isn't in the daemon's store."""
        command = ["docker", "image", "inspect", "--format", "{{.Id}}", reference]
        return run(command).strip() if succeeds(command) else None

    def pull(self, reference: str) -> bool:
        """Tries to pull; an image that is here already counts."""
        return succeeds(["docker", "pull", "--quiet", reference], timeout_seconds=PULL_SECONDS)

    def import_root(self, tar: Path, reference: str) -> None:
        """Imports the tar as an image of one layer."""
        run_visibly(["docker", "import", "--change", 'CMD ["python3"]', str(tar), reference])

    def build(self, request: BuildRequest) -> None:
        """Builds with BuildKit into the daemon's store; its own cache keeps the stages."""
        command = [*(_front_end() or ("docker", "build")), "--progress", "plain"]
        command += ["--tag", request.reference, "--file", str(request.containerfile)]
        for name, value in request.arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        for secret, path in request.secrets.items():
            command += ["--secret", f"id={secret},src={path}"]
        run_visibly([*command, str(request.context)], env=dict(os.environ, DOCKER_BUILDKIT="1"))

    def tags(self, repository: str) -> list[str]:
        """Returns the repository's references, newest first."""
        lines = run(["docker", "image", "ls", "--format", "{{json .}}", repository]).splitlines()
        found = [json.loads(line) for line in lines]
        found.sort(key=lambda image: str(image["CreatedAt"]), reverse=True)
        return [f"{i['Repository']}:{i['Tag']}" for i in found if i["Tag"] != "<none>"]

    def remove(self, reference: str) -> None:
        """Removes a name, unless a container still uses the image."""
        succeeds(["docker", "image", "rm", reference], timeout_seconds=None)

    def prune(self) -> None:
        """Leaves BuildKit's cache to the daemon's own garbage collection."""

    def size(self, reference: str) -> int:
        """Returns the image's size in bytes as the daemon counts it."""
        return int(run(["docker", "image", "inspect", "--format", "{{.Size}}", reference]))

    def push(self, reference: str, destination: str) -> None:
        """Pushes through the daemon; a registry on localhost may speak plain HTTP."""
        if destination != reference:
            run_visibly(["docker", "tag", reference, destination])
        run_visibly(["docker", "push", "--quiet", destination])


def _front_end() -> tuple[str, ...] | None:
    """The command that builds with BuildKit: buildx, or a client old enough to have it built in."""
    if succeeds(["docker", "buildx", "version"]):
        return ("docker", "buildx", "build", "--load")
    version = run(["docker", "version", "--format", "{{.Client.Version}}"]).strip()
    major = version.partition(".")[0]
    return ("docker", "build") if major.isdecimal() and int(major) < _BUILDX_SINCE else None
