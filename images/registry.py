"""Registry. Where built images go: the cluster's local registry, or one that the user names."""

import urllib.error
import urllib.request

from host.errors import ToolError

# The same name on the host, on every node and in every pod spec (e2e/registry/).
CLUSTER_REGISTRY_PORT = 5001
CLUSTER_REGISTRY = f"localhost:{CLUSTER_REGISTRY_PORT}"
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json,"
    "application/vnd.docker.distribution.manifest.v2+json"
)
# The registry is on this machine: a proxy has no business in between. The standard library asks it, since
# a bare Python does so too, before any package is there.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def resolve(push: str) -> str:
    """Returns the registry to push to, `host[:port][/prefix]`; empty means the cluster's.

    Raises ToolError when the cluster's is meant and none answers.
    """
    if push:
        return push.rstrip("/")
    if not cluster_registry_answers():
        raise ToolError(
            f"--push: no registry answers on {CLUSTER_REGISTRY}; start the cluster with "
            "`make cluster-up`, or name a registry: --push HOST:PORT"
        )
    return CLUSTER_REGISTRY


def cluster_registry_answers() -> bool:
    """Tells whether something answers as a registry where the cluster's is."""
    return _answers(f"http://{CLUSTER_REGISTRY}/v2/")


def has_image(registry: str, repository: str, tag: str) -> bool:
    """Tells whether the cluster's registry holds the tag; False for others, which aren't asked."""
    if registry != CLUSTER_REGISTRY:
        return False
    return _answers(f"http://{registry}/v2/{repository}/manifests/{tag}")


def _answers(url: str) -> bool:
    headers = {"Accept": _MANIFESTS}
    request = urllib.request.Request(url, method="HEAD", headers=headers)  # noqa: S310 -- always http
    try:
        with _opener.open(request, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
