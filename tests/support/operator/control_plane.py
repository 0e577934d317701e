"""Control plane: a real kube-apiserver with etcd and nothing else: no scheduler, no controllers, no kubelet.

Tests against it see what only the real thing does: CRD validation, CEL, defaulting, server-side
apply, RBAC, watches. What controllers and kubelets would write, a test writes itself.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

_START_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where the API server listens and how to log in."""

    url: str
    kubeconfig: Path
    operator_kubeconfig: Path
    """Logs in as the user `octavo-operator`, who has what RBAC gives and no more."""
    log: Path


def find_binary(name: str) -> Path | None:
    """`$OCTAVO_APISERVER_BIN_DIR/<name>`, else the newest in the cache that `make cluster-up` fills."""
    if folder := os.environ.get("OCTAVO_APISERVER_BIN_DIR"):
        path = Path(folder) / name
        return path if os.access(path, os.X_OK) else None
    cache = Path(os.environ.get("OCTAVO_CACHE", "~/.cache/octavo")).expanduser()
    found = [path for path in cache.glob(f"bin/*/{name}") if os.access(path, os.X_OK)]
    if found:
        return max(found, key=lambda path: path.stat().st_mtime)
    on_path = shutil.which(name)
    return Path(on_path) if on_path else None


@contextmanager
def running(folder: Path, etcd: Path, kube_apiserver: Path) -> Iterator[ControlPlane]:
    """Starts both in `folder`, waits until the API server is ready, and stops both at the end."""
    etcd_port, peer_port, api_port = free_ports(3)
    admin_token, operator_token = secrets.token_hex(16), secrets.token_hex(16)
    tokens = folder / "tokens.csv"
    tokens.write_text(
        f'{admin_token},admin,1,"system:masters"\n{operator_token},octavo-operator,2\n',
        encoding="utf-8",
    )
    tokens.chmod(0o600)
    key = folder / "service-account.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    log = folder / "kube-apiserver.log"
    with _process(_etcd_command(etcd, folder, etcd_port, peer_port), folder / "etcd.log"):
        command = _apiserver_command(kube_apiserver, folder, api_port, etcd_port, key, tokens)
        with _process(command, log) as apiserver:
            url = f"https://127.0.0.1:{api_port}"
            _wait_ready(url, admin_token, apiserver, log)
            certificate = folder / "certs" / "apiserver.crt"
            yield ControlPlane(
                url,
                _kubeconfig(folder / "admin.kubeconfig", url, certificate, admin_token),
                _kubeconfig(folder / "operator.kubeconfig", url, certificate, operator_token),
                log,
            )


def _etcd_command(etcd: Path, folder: Path, port: int, peer_port: int) -> list[str]:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return [
        str(etcd),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync=true",
        "--log-level=warn",
    ]


def _apiserver_command(
    binary: Path, folder: Path, port: int, etcd_port: int, key: Path, tokens: Path
) -> list[str]:
    return [
        str(binary),
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certs'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        f"--token-auth-file={tokens}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        # Nothing here makes default ServiceAccounts, and no pod ever runs.
        "--disable-admission-plugins=ServiceAccount",
        "--event-ttl=10m",
    ]


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(url: str, token: str, process: subprocess.Popen[bytes], log: Path) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    request = urllib.request.Request(  # noqa: S310 (the address is ours)
        f"{url}/readyz", headers={"Authorization": f"Bearer {token}"}
    )
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5, context=context):  # noqa: S310
                return
        except (urllib.error.URLError, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
                raise RuntimeError(f"kube-apiserver is not ready: {error}\n{tail}") from error
        time.sleep(0.2)


def _kubeconfig(path: Path, url: str, certificate: Path, token: str) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [
                    {
                        "name": "test",
                        "cluster": {"server": url, "certificate-authority": str(certificate)},
                    }
                ],
                "users": [{"name": "test", "user": {"token": token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            }
        ),
        encoding="utf-8",
    )
    path.chmod(0o600)
    return path


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
