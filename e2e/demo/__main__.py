"""`python -m e2e.demo`: the whole way from nothing to a served model, with every command shown.

Safe to run twice: what exists is used again. The cluster stays up afterwards; the end says how to look
around and how to take it down.
"""

from __future__ import annotations

import argparse
import os
import sys

from e2e.cluster import Cluster
from e2e.demo import show, story
from e2e.lib import clients
from e2e.lib.environment import (
    Environment,
    OwnCluster,
    build_command,
    build_images,
    environment_of,
    kubectl_of,
    open_cluster,
)
from e2e.lib.kubectl import Kubectl
from e2e.lib.wait import WaitTimeoutError
from host.errors import CommandError, ToolError, readable

CLUSTER = "octavo"
PYTHON = ".venv/bin/python"
"""As a person types it at the repository's root."""


def main() -> int:
    """The exit status: 0 when the whole story was told."""
    options = _parser().parse_args()
    try:
        own = None
        if options.context:
            own = OwnCluster(options.context, options.registry, options.prometheus_url)
        cluster = _cluster(own)
        environment = _images(cluster, own)
    except (ToolError, ValueError) as failed:
        print(f"\nThe demo did not get to its model: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _interrupted()
    return _tell(environment, options.namespace, _bring_up(cluster), _take_down(own))


def _tell(environment: Environment, namespace: str, bring_up: str, take_down: str) -> int:
    kubectl = environment.kubectl.within(namespace)
    try:
        if environment.kubectl.get("namespace", namespace) is None:
            show.typed(f"kubectl create namespace {namespace}")
            environment.kubectl.run("create", "namespace", namespace)
        # First the client: the node pulls the runtime's image while the operator is installed.
        clients.start_client(kubectl, environment.images.runtime)
        show.say("# meanwhile a client's pod starts: the node pulls the runtime's image for it")
        story.install(
            environment.kubectl, environment.helm, environment.images, environment.prometheus_url
        )
        url = story.serve(kubectl)["status"]["url"]
        story.ask(kubectl, url)
        if environment.prometheus_url:
            story.burst(kubectl, url)
        else:
            show.say("No --prometheus-url: the burst of load and autoscaling are left out.")
        story.look_around(kubectl, bring_up, take_down)
    except WaitTimeoutError as failed:
        # It brings its own explanation: conditions, Events, logs.
        print(f"\nThe demo failed: {failed}", file=sys.stderr)
        return 1
    except (CommandError, AssertionError, LookupError) as failed:
        print(f"\nThe demo failed: {failed}", file=sys.stderr)
        print(story.explain_failure(kubectl), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _interrupted()
    finally:
        _remove_client(kubectl)
    return 0


def _remove_client(kubectl: Kubectl) -> None:
    """Where the API server is gone this fails as well, and what was told before is what counts."""
    try:
        kubectl.delete("pod", clients.CLIENT, "--wait=false", timeout_seconds=20)
    except CommandError as failed:
        print(f"The client's pod was not removed: {failed}", file=sys.stderr)


def _cluster(own: OwnCluster | None) -> Cluster:
    show.heading("A Kubernetes cluster")
    if own is None:
        show.typed(f"{PYTHON} -m e2e.cluster up --name {CLUSTER}")
    cluster = open_cluster(CLUSTER, 0, 0, own)
    show.typed(_bring_up(cluster).replace("\n", "\n$ "))
    show.typed("kubectl get nodes")
    show.say(kubectl_of(cluster).run("get", "nodes").rstrip())
    return cluster


def _images(cluster: Cluster, own: OwnCluster | None) -> Environment:
    registry = own.registry if own else ""
    show.heading("The operator's and the runtime's image")
    show.typed(readable([PYTHON, *build_command(registry)]))
    images = build_images(registry)
    show.say(f"octavo-operator={images.operator}\noctavo-runtime={images.runtime}")
    return environment_of(cluster, images, own)


def _bring_up(cluster: Cluster) -> str:
    """What a shell needs to reach the cluster with kubectl."""
    folders = dict.fromkeys(str(p.parent) for p in (cluster.kubectl_path, cluster.helm_path))
    return f"export KUBECONFIG={cluster.kubeconfig}\nexport PATH={':'.join(folders)}:$PATH"


def _take_down(own: OwnCluster | None) -> str:
    if own is None:
        return "make cluster-down"
    return "helm uninstall octavo -n octavo-system && kubectl delete crd llmdeployments.octavo.dev"


def _interrupted() -> int:
    print("\nInterrupted. Run it again to go on; `make cluster-down` removes all.", file=sys.stderr)
    return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{PYTHON} -m e2e.demo", description=__doc__)
    parser.add_argument("--context", help="use this context of your kubeconfig, not kind")
    parser.add_argument(
        "--registry",
        default=os.environ.get("OCTAVO_REGISTRY", ""),
        metavar="HOST[/PREFIX]",
        help="with --context: where we push images and the cluster pulls them ($OCTAVO_REGISTRY)",
    )
    parser.add_argument(
        "--prometheus-url",
        default="",
        help="with --context: the cluster's Prometheus, as a pod reaches it",
    )
    parser.add_argument("--namespace", default="default", help="of the model (default: default)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
