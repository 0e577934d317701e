"""Clients inside the cluster: a pod of the runtime image under the restricted Pod Security Standard."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

from e2e.lib.kubectl import Kubectl, Object
from e2e.lib.wait import wait_for

_SCRIPTS = Path(__file__).parent / "scripts"
ASK = _SCRIPTS / "ask.py"
KNOCK = _SCRIPTS / "knock.py"
LOAD = _SCRIPTS / "load.py"
CLIENT = "client"


def client_pod(image: str, node: str | None = None) -> Object:
    """A pod that does nothing until a command is executed in it; `node` pins it to a node."""
    idle = "import signal; signal.pause()"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": CLIENT, "labels": {"app.kubernetes.io/name": "octavo-client"}},
        "spec": {
            **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # Python as process 1 ignores SIGTERM, and there is nothing to finish.
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "client",
                    "image": image,
                    "command": ["python", "-c", idle],
                    "env": [{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
                    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def start_client(kubectl: Kubectl, image: str, node: str | None = None) -> None:
    """Applies the client's pod and waits until commands can be executed in it."""
    # The controller-manager makes the default ServiceAccount a moment after the namespace.
    wait_for(
        "the namespace's default ServiceAccount",
        lambda: kubectl.get("serviceaccount", "default"),
        timeout_seconds=30,
    )
    kubectl.apply(client_pod(image, node))


def await_client(kubectl: Kubectl, timeout_seconds: int = 120) -> None:
    kubectl.run(
        "wait",
        "pod",
        CLIENT,
        "--for=condition=Ready",
        f"--timeout={timeout_seconds}s",
        timeout_seconds=timeout_seconds + 10,
    )


def ask(kubectl: Kubectl, url: str, model: str, question: str, key: str | None = None) -> str:
    """The answer of the model, asked once, without retries, from the client's pod."""
    script = ASK.read_text()
    words = [question, key] if key else [question]
    command = ("exec", CLIENT, "--", "python", "-c", script, url, model, *words)
    return kubectl.run(*command, timeout_seconds=60).strip()


def knock(kubectl: Kubectl, key: str | None, *urls: str) -> list[int]:
    """The HTTP status by which each of them answers this key, or none, from the client's pod."""
    command = ("exec", CLIENT, "--", "python", "-c", KNOCK.read_text(), key or "-", *urls)
    return [int(line) for line in kubectl.run(*command, timeout_seconds=60).split()]


@dataclasses.dataclass(frozen=True, slots=True)
class LoadResult:
    """What became of the requests; `refused` are 429, which the server gives when its queue is full."""

    ok: int
    refused: int
    failed: int
    tokens: int
    errors: list[str]


class Load:
    """Concurrent requests from the client's pod, from here until `stop`."""

    def __init__(
        self,
        kubectl: Kubectl,
        url: str,
        model: str,
        *,
        concurrency: int,
        max_tokens: int,
        seconds: int = 600,
        key: str | None = None,
    ) -> None:
        words = [str(number) for number in (concurrency, seconds, max_tokens)]
        words += [key] if key else []
        self._process = kubectl.popen(
            "exec", "-i", CLIENT, "--", "python", "-c", LOAD.read_text(), url, model, *words
        )
        self._read_until("started")

    def stop(self) -> LoadResult:
        """Lets running requests end and counts."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        line = self._read_until("{")
        self._process.wait(timeout=30)
        return LoadResult(**json.loads(line))

    def kill(self) -> None:
        """For a test that failed before `stop`."""
        if self._process.poll() is None:
            self._process.kill()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                return

    def _read_until(self, start: str) -> str:
        seen = []
        for line in self._process.stdout or ():
            if line.startswith(start):
                return line
            seen.append(line)
        raise AssertionError(f"the load generator ended early: {''.join(seen)[-2000:]}")
