"""Private Docker engine: the distribution's dockerd, unpacked and started for this alone.

It lives in its own mount and process namespaces. When it ends, every container, mount
and helper process of it ends with it, whatever happened before. It is told to leave iptables alone;
what it needs of the network is one nftables table (see `outbound`). Its data is kept in the cache.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from e2e.docker import Engine
from e2e.paths import Layout
from e2e.programs import binaries
from e2e.without_docker import outbound, residue, sysctls
from e2e.without_docker.engine_packages import engine_packages
from host.debian import Unpacked
from host.errors import ToolError
from host.process import succeeds, wait_until_gone
from host.progress import step

_START_SECONDS = 60.0
_STOP_SECONDS = 40.0
_CAP_SYS_RESOURCE = 24


def stop(layout: Layout) -> None:
    """End our engine, if it runs, and take away all that it brought onto the machine."""
    pid = find_process(layout.engine)
    if pid is not None:
        with step("Stop the container engine"):
            _ask_to_end(pid)
            if not wait_until_gone(pid, _STOP_SECONDS):
                os.kill(pid, signal.SIGKILL)  # takes the whole process namespace with it
                wait_until_gone(pid, 10)
    outbound.close(layout)
    sysctls.set_back(layout)
    residue.remove(layout)
    shutil.rmtree(layout.engine / "exec", ignore_errors=True)
    layout.engine_socket.unlink(missing_ok=True)


def lacks_sys_resource(status: str) -> bool:
    """Whether a `/proc/PID/status` text has no CAP_SYS_RESOURCE in its bounding set."""
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and not int(found[1], 16) >> _CAP_SYS_RESOURCE & 1


def this_machine_lacks_sys_resource() -> bool:
    """`lacks_sys_resource` of the process that asks."""
    if platform.system() != "Linux":
        return False
    return lacks_sys_resource(Path("/proc/self/status").read_text())


def ours_if_running(layout: Layout) -> Engine | None:
    """The engine that an earlier command started, once it answers."""
    if find_process(layout.engine) is None:
        return None
    engine = _client(layout, engine_packages(layout))
    # A busy machine answers late; taking that for dead would end the clusters that run.
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(engine):
        if find_process(layout.engine) is None or time.monotonic() > deadline:
            return None
        time.sleep(0.3)
    return engine


def _client(layout: Layout, packages: Unpacked) -> Engine:
    configuration = layout.engine / "client"
    configuration.mkdir(parents=True, exist_ok=True)
    docker = packages.root / "usr/bin/docker"
    environment = binaries.with_folders_first(os.environ, docker.parent)
    for name in ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        environment.pop(name, None)
    environment["DOCKER_HOST"] = f"unix://{layout.engine_socket}"
    environment["DOCKER_CONFIG"] = str(configuration)
    return Engine(str(docker), is_ours=True, environment=environment)


def _answers(engine: Engine) -> bool:
    command = [engine.docker, "version", "--format", "{{.Server.Version}}"]
    return succeeds(command, env=engine.environment, timeout_seconds=10)


def start(layout: Layout) -> Engine:
    """Start it, after what an earlier one may have left was taken away."""
    packages = engine_packages(layout)
    stop(layout)  # what an interrupted or crashed engine may have left
    runtime = None
    if this_machine_lacks_sys_resource():
        runtime = binaries.go_tool("runc-without-caps", layout)
    log = layout.engine / "dockerd.log"
    environment = packages.environment(os.environ)
    environment.pop("DOCKER_HOST", None)
    runc = shutil.which("runc", path=environment["PATH"])
    if runc is not None:
        environment["OCTAVO_RUNC"] = runc
    with step("Start the distribution's Docker engine for Octavo alone"):
        layout.engine.mkdir(parents=True, exist_ok=True)
        (layout.engine / "daemon.json").write_text("{}\n")
        residue.remember(layout)
        with log.open("w") as output:
            process = subprocess.Popen(
                [*_namespaces(environment), *_daemon(layout, environment, runtime)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        engine = _client(layout, packages)
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(engine):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ToolError("The container engine did not start", log=log)
            time.sleep(0.3)
        outbound.open_for(layout, environment)
    return engine


def _namespaces(environment: Mapping[str, str]) -> list[str]:
    """Mounts and processes of the engine are its own; killing `unshare` ends all of them."""
    tini = shutil.which("tini", path=environment["PATH"])
    if tini is None:
        raise ToolError("tini was not found among the unpacked packages of docker.io")
    unshare = ["unshare", "--mount", "--propagation", "slave", "--pid", "--fork"]
    return [*unshare, "--kill-child=SIGKILL", "--mount-proc", tini, "--"]


def _daemon(layout: Layout, environment: Mapping[str, str], runtime: Path | None) -> list[str]:
    folder = layout.engine
    dockerd = shutil.which("dockerd", path=environment["PATH"]) or "dockerd"
    command = [
        dockerd,
        f"--host=unix://{layout.engine_socket}",
        f"--config-file={folder / 'daemon.json'}",
        f"--data-root={folder / 'data'}",
        f"--exec-root={folder / 'exec'}",
        f"--pidfile={folder / 'exec/docker.pid'}",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{residue.CGROUP_PARENT}",
        "--oom-score-adjust=0",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-masq=false",
        "--log-level=warn",
    ]
    if runtime is not None:
        command += [f"--add-runtime=without-caps={runtime}", "--default-runtime=without-caps"]
    return command


def find_process(folder: Path, processes: Path = Path("/proc")) -> int | None:
    """The pid of the process that holds the engine of this folder's namespaces, if one runs.

    It is found by its arguments, so nothing written down can be lost or be out of date.
    """
    argument = f"--data-root={folder / 'data'}"
    for entry in processes.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile
        if Path(words[0].decode(errors="replace")).name == "unshare" and argument.encode() in words:
            return int(entry.name)
    return None


def _ask_to_end(pid: int) -> None:
    """Signal the engine itself, which is the one child of `unshare`."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    with contextlib.suppress(OSError):
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGTERM)
