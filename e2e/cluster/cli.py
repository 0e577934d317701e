"""Command line. The commands of `python -m e2e.cluster`. Values go to stdout, progress to stderr."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from e2e.cluster import cluster, status
from e2e.paths import cache_layout
from e2e.programs import binaries
from e2e.registry import container as registry
from host.errors import ToolError
from host.progress import complain, say

app = typer.Typer(
    help="A real Kubernetes on this machine: kind, a registry and Prometheus.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Option("--name", help="The cluster's name.")]
DEFAULT_NAME = "octavo"
_INTERRUPTED = 130


@app.command()
def up(
    name: Name = DEFAULT_NAME,
    workers: Annotated[int, typer.Option(min=0, max=8, help="Nodes beside the control plane.")] = 0,
    fake_gpus: Annotated[
        int, typer.Option(min=0, max=64, help="nvidia.com/gpu that each worker claims.")
    ] = 0,
    context: Annotated[
        str, typer.Option(help="Use the cluster of this kubeconfig context as it is.")
    ] = "",
    prometheus: Annotated[
        bool | None,
        typer.Option(
            "--prometheus/--no-prometheus",
            help="Install Prometheus. Default: yes on kind, no with --context.",
        ),
    ] = None,
) -> None:
    """Start the cluster, or use the one that runs. Safe to repeat."""
    if context:
        found = cluster.adopt_context(name, context, with_prometheus=bool(prometheus))
        if fake_gpus:
            found.set_fake_gpus(fake_gpus)
    else:
        wanted = prometheus is not False
        found = cluster.ensure_cluster(name, workers, fake_gpus, with_prometheus=wanted)
    say(f"The cluster {name} is up: export KUBECONFIG={found.kubeconfig}")


@app.command()
def down(
    name: Name = DEFAULT_NAME,
    everything: Annotated[
        bool,
        typer.Option("--all", help="All clusters, the registry, and the engine that we started."),
    ] = False,
) -> None:
    """Remove the cluster. What was built stays in the cache."""
    cluster.remove_cluster(name, everything=everything)


@app.command()
def kubeconfig(name: Name = DEFAULT_NAME) -> None:
    """Print the path of the kubeconfig."""
    typer.echo(cluster.open_cluster(name).kubeconfig)


@app.command(name="load-image")
def load_image(
    references: Annotated[list[str], typer.Argument(help="Local images, or archives' paths.")],
    name: Name = DEFAULT_NAME,
) -> None:
    """Push local images to the cluster's registry and print the names that pods use."""
    known = cluster.known_clusters(cache_layout())
    found = cluster.open_cluster(name if name in known or not known else known[0])
    for reference in references:
        typer.echo(found.load_image(reference))


@app.command()
def pull(
    references: Annotated[list[str], typer.Argument(help="Images, by the names that pods use.")],
    name: Name = DEFAULT_NAME,
) -> None:
    """Have the workers fetch images while something else runs."""
    cluster.open_cluster(name).begin_pull(references)


@app.command()
def tool(
    names: Annotated[
        list[str], typer.Argument(help="Programs that we build, such as etcd or kube-apiserver.")
    ],
) -> None:
    """Build programs from their pinned sources, unless they are there, and print their paths."""
    for path in binaries.build_tools(names, cache_layout()):
        typer.echo(path)


@app.command(name="registry")
def registry_address() -> None:
    """Print the address to push images to; pods use the same."""
    typer.echo(registry.ADDRESS)


@app.command(name="status")
def show_status(name: Annotated[str, typer.Option("--name")] = "") -> None:
    """What runs, where, and how much disk it takes."""
    status.show(cache_layout(), name)


def main() -> None:
    """Run a command; an error is told in words, an interruption leaves all locks free."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app()
    except ToolError as error:
        complain(str(error))
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            say("Interrupted; the same command goes on where this one stopped.")
        raise
