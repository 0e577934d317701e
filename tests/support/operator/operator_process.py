"""Operator process: `python -m octavo_operator.main` with a kubeconfig of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.support.operator.control_plane import ControlPlane


class OperatorProcess:
    """`python -m octavo_operator.main`, watching one namespace."""

    def __init__(self, plane: ControlPlane, namespace: str, log: Path, **settings: str) -> None:
        self.log = log
        self._readyz = f"http://127.0.0.1:{settings.get('health_port', '0')}/readyz"
        environment = {
            "PATH": os.environ["PATH"],
            # The operator of this tree, wherever another one is installed from.
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(log.parent),
            "KUBECONFIG": str(plane.operator_kubeconfig),
            "OCTAVO_OPERATOR_RUNTIME_IMAGE": "registry.example/octavo-runtime:1",
            "OCTAVO_OPERATOR_WATCH_NAMESPACES": namespace,
            "OCTAVO_OPERATOR_NAMESPACE": namespace,
            "OCTAVO_OPERATOR_HEALTH_PORT": "0",
            **{f"OCTAVO_OPERATOR_{key.upper()}": value for key, value in settings.items()},
        }
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "octavo_operator.main"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def is_ready(self) -> bool:
        """As the kubelet asks; the port must have been chosen."""
        try:
            with urllib.request.urlopen(self._readyz, timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    def says(self, part: str) -> bool:
        return part in self.text()

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self, number: signal.Signals | None = signal.SIGTERM) -> int:
        """Its exit status; waits for an end of its own without a signal."""
        if self._process.poll() is None and number is not None:
            self._process.send_signal(number)
        try:
            return self._process.wait(timeout=100)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
