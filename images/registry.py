"""Where built images go: a registry, by two names.

A cluster's local registry is reached from the host under one address and named by pods under
another (`localhost:5001`, which the nodes' containerd maps). A registry that the user names has one.
"""

import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass

from images.errors import BuildError
from images.paths import REPOSITORY_ROOT

POD_REGISTRY = "localhost:5001"


@dataclass(frozen=True, slots=True)
class Registry:
    """`push_address` is what the host pushes to, `pod_address` what a pod's image starts with."""

    push_address: str
    pod_address: str


def named_registry(address: str) -> Registry:
    """Returns the registry that the user named, `host[:port][/prefix]`."""
    return Registry(push_address=address.rstrip("/"), pod_address=address.rstrip("/"))


def cluster_registry() -> Registry:
    """Returns the registry of the cluster that is up; raises BuildError when none is."""
    command = [sys.executable, "-m", "e2e.cluster", "registry"]
    done = subprocess.run(command, cwd=REPOSITORY_ROOT, capture_output=True, text=True, check=False)
    address = done.stdout.strip()
    if done.returncode != 0 or not address:
        raise BuildError(
            "--push found no cluster's registry: `python -m e2e.cluster up` first, or name one with "
            f"--push HOST:PORT ({done.stderr.strip().splitlines()[-1:] or 'no output'})"
        )
    return Registry(push_address=address, pod_address=POD_REGISTRY)


def has_image(registry: Registry, repository: str, tag: str) -> bool:
    """Tells whether a local plain-HTTP registry holds the tag; False where it can't be asked."""
    url = f"http://{registry.push_address}/v2/{repository}/manifests/{tag}"
    kinds = (
        "application/vnd.oci.image.manifest.v1+json, "
        "application/vnd.docker.distribution.manifest.v2+json"
    )
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": kinds})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
