"""`python -m benchmarks.first_token`: from `kubectl apply` to the first streamed token, on a warm cluster.

Images are on the node and the operator runs, so what is timed is Octavo's own path: apply → reconcile →
schedule → start → load → ready → endpoint → first token. A client's pod polls the Service from before the
apply, as an application would that waits for its model; pods and host share one clock.
"""

from __future__ import annotations

import json
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.cpu.hardware import describe_hardware
from e2e.lib import clients
from e2e.lib.environment import prepare
from e2e.lib.install import OPERATOR_NAMESPACE, restricted_namespace, upgrade_arguments
from e2e.lib.kubectl import Kubectl, Object
from e2e.lib.llmd import wait_ready

console = Console()
NAMESPACE = "first-token"
POLL = Path(__file__).parent / "scripts" / "first_token.py"


def llmdeployment(name: str) -> Object:
    return {
        "apiVersion": "octavo.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"uri": "builtin://demo"}, "replicas": 1},
    }


def measure(kubectl: Kubectl, name: str) -> dict[str, float]:
    """Seconds from the moment before `kubectl apply` to the first token and to Ready."""
    url = f"http://{name}.{NAMESPACE}.svc:8000/v1"
    client = kubectl.popen(
        "exec", clients.CLIENT, "--", "python", "-c", POLL.read_text(), url, name
    )
    assert client.stdout is not None
    assert client.stdout.readline().strip() == "polling"
    applied = time.time()
    kubectl.apply(llmdeployment(name))
    answer: dict[str, float] = json.loads(client.stdout.readline())
    client.wait(timeout=30)
    wait_ready(kubectl, name)
    ready = time.time()
    kubectl.delete("llmd", name, "--wait=true")
    return {
        "first_token_seconds": round(answer["first_token_time"] - applied, 2),
        "ready_seconds": round(ready - applied, 2),
    }


def main(
    runs: Annotated[int, typer.Option(help="counted runs, after one that is not")] = 5,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    environment = prepare("octavo-e2e", 2, 0, None)
    environment.kubectl.apply(
        restricted_namespace(OPERATOR_NAMESPACE), restricted_namespace(NAMESPACE)
    )
    environment.helm.run(*upgrade_arguments(environment.images, environment.prometheus_url))
    kubectl = environment.kubectl.within(NAMESPACE)
    try:
        clients.start_client(kubectl, environment.images.runtime)
        clients.await_client(kubectl)
        rows = [measure(kubectl, f"run-{number}") for number in range(runs + 1)][1:]
    finally:
        environment.kubectl.delete("namespace", NAMESPACE, "--wait=false")
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": describe_hardware(),
        "cluster": "kind, one control plane and two workers on this machine",
        "runs": rows,
        "first_token_seconds_median": statistics.median(r["first_token_seconds"] for r in rows),
        "ready_seconds_median": statistics.median(r["ready_seconds"] for r in rows),
    }
    console.print(result)
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
