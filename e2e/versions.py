"""Versions. Every version that the cluster is made of, in this one place.

A Go program's checksum is the go.sum beside the go.mod in `programs/tools/<module>/`; the versions below
must say what those files say (a test compares them). An image's checksum is its digest. Debian
packages are checked by apt against the archive's signature.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GoTool:
    """A program built from `programs/tools/<module>`: `package` is what `go build` is given."""

    binary: str
    module: str
    package: str
    version: str
    ldflags: str = "-s -w"
    tags: str = ""


KUBERNETES = "v1.36.3"
ETCD = "v3.6.8"
COREDNS = "v1.15.0"
CONTAINERD = "v2.4.2"
CRICTL = "v1.36.0"
KIND = "v0.33.0"
HELM = "v4.3.1"
REGISTRY = "v3.0.0"
PROMETHEUS = "v0.315.0"
"""The Go module's version; the program calls itself 3.15.0."""
OWN = "v1"
"""The small programs of this repository; raise it when their source changes."""

# Names under which kubeadm of this Kubernetes version asks for its images.
ETCD_IMAGE_TAG = "3.6.8-0"
PAUSE_IMAGE_TAGS = ("3.10", "3.10.2")

# kind v0.33.0's own default: published with it and named by digest in its source.
PUBLISHED_NODE_IMAGE = (
    "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
)
PUBLISHED_REGISTRY_IMAGE = (
    "registry:3.0.0@sha256:6c5666b861f3505b116bb9aa9b25175e71210414bd010d92035ff64018f9457e"
)
PUBLISHED_PROMETHEUS_IMAGE = (
    "prom/prometheus:v3.15.0"
    "@sha256:efd719c99d83b060d9daefdcf00360461adf279f45ef5391f8d111892118753e"
)

# The last Debian whose systemd still starts on cgroup v1.
NODE_DEBIAN_SUITE = "bookworm"
NODE_DEBIAN_PACKAGES = (
    "ca-certificates",
    "conntrack",
    "containernetworking-plugins",
    "curl",
    "e2fsprogs",
    "ethtool",
    "iproute2",
    "iptables",
    "jq",
    "kmod",
    "libseccomp2",
    "nftables",
    "procps",
    "runc",
    "socat",
    "systemd",
)

# What a machine without Docker lacks; unpacked into the cache, never installed.
ENGINE_DEBIAN_PACKAGES = ("docker.io", "iptables", "nftables")

# What is taken from PATH: kind that knows the node image, kubectl within one minor version of
# both node images.
OLDEST_KIND = (0, 33)
KUBECTL_MINORS = (36, 37)
HELM_MAJORS = (3, 4)


def _kubernetes_ldflags() -> str:
    major, minor, _patch = KUBERNETES.removeprefix("v").split(".")
    base = "k8s.io/component-base/version"
    values = {
        f"{base}.gitVersion": KUBERNETES,
        f"{base}.gitMajor": major,
        f"{base}.gitMinor": minor,
        f"{base}.gitTreeState": "clean",
        "k8s.io/client-go/pkg/version.gitVersion": KUBERNETES,
    }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])


def _kubernetes(binary: str) -> GoTool:
    package = f"k8s.io/kubernetes/cmd/{binary}"
    return GoTool(binary, "kubernetes", package, KUBERNETES, _kubernetes_ldflags())


def _containerd(binary: str) -> GoTool:
    package = f"github.com/containerd/containerd/v2/cmd/{binary}"
    return GoTool(binary, "containerd", package, CONTAINERD)


GO_TOOLS: dict[str, GoTool] = {
    tool.binary: tool
    for tool in (
        GoTool("kind", "kind", "sigs.k8s.io/kind", KIND),
        GoTool("helm", "helm", "helm.sh/helm/v4/cmd/helm", HELM),
        GoTool(
            "registry",
            "registry",
            "github.com/distribution/distribution/v3/cmd/registry",
            REGISTRY,
        ),
        GoTool(
            "prometheus",
            "prometheus",
            "github.com/prometheus/prometheus/cmd/prometheus",
            PROMETHEUS,
            # Of the ways to discover targets only Kubernetes' is needed; each brings a cloud's SDK.
            tags="remove_all_sd,enable_kubernetes_sd",
        ),
        GoTool("etcd", "etcd", "go.etcd.io/etcd/server/v3", ETCD),
        GoTool("crictl", "crictl", "sigs.k8s.io/cri-tools/cmd/crictl", CRICTL),
        GoTool("coredns", "coredns", "github.com/coredns/coredns", COREDNS),
        GoTool("pause", "pause", ".", OWN),
        GoTool("runc-without-caps", "runc-without-caps", ".", OWN),
        GoTool("nodeagent", "kubernetes", "./nodeagent", OWN),
        *(_containerd(name) for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
        *(
            _kubernetes(name)
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kube-proxy",
                "kubelet",
                "kubeadm",
                "kubectl",
            )
        ),
    )
}

NODE_BINARIES = (
    "coredns",
    "etcd",
    "pause",
    "nodeagent",
    "crictl",
    *(tool.binary for tool in GO_TOOLS.values() if tool.module == "containerd"),
    *(tool.binary for tool in GO_TOOLS.values() if tool.package.startswith("k8s.io/kubernetes/")),
)
"""What a node image of our own holds."""
