"""Programs the cluster needs: from PATH where their version fits, else built from pinned modules."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from e2e import versions
from e2e.paths import Layout
from e2e.programs import go
from host.errors import ToolError
from host.process import run
from host.progress import step
from host.system import exclusive

_BUILD_TIMEOUT_SECONDS = 3600


def tools_folder() -> Path:
    """The Go modules, one folder each, that the programs are built from."""
    return Path(__file__).parent / "tools"


def go_tool(binary: str, layout: Layout) -> Path:
    """The program built from its module in `tools/`, or the one that an earlier call built."""
    tool = versions.GO_TOOLS[binary]
    target = _target(binary, layout)
    if target.exists():
        return target
    folder = tools_folder() / tool.module
    compiler = go.command(f"{binary} {tool.version}")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    command = [compiler, "build", "-trimpath", "-mod=readonly", "-buildvcs=false"]
    command += ["-tags", tool.tags, "-ldflags", tool.ldflags, "-o", str(unfinished), tool.package]
    with step(f"Build {binary} {tool.version}"):
        run(
            command,
            cwd=folder,
            env={
                **go.environment(folder),
                "CGO_ENABLED": "0",
                "GOCACHE": str(layout.go_build),
            },
            log=layout.logs / f"build-{tool.module}.log",
            timeout_seconds=_BUILD_TIMEOUT_SECONDS,
        )
        unfinished.rename(target)
    return target


def build_tools(names: Sequence[str], layout: Layout) -> list[Path]:
    """`go_tool` of each, once the cache is ours; raises `ToolError` for a name that there is not."""
    unknown = sorted(set(names) - versions.GO_TOOLS.keys())
    if unknown:
        raise ToolError(
            f"There is no program {', '.join(unknown)}; there are {', '.join(versions.GO_TOOLS)}"
        )
    with exclusive(layout.lock):
        return [go_tool(name, layout) for name in names]


def drop_build_cache(layout: Layout) -> None:
    """Remove what the compiler kept: seven gigabytes, and of no use once the programs exist."""
    shutil.rmtree(layout.go_build, ignore_errors=True)


def module_folder(module: str, dependency: str, layout: Layout) -> Path:
    """The source folder of a module that `tools/<module>` requires, downloaded if need be."""
    folder = tools_folder() / module
    listed = run(
        [go.command(dependency), "mod", "download", "-json", dependency],
        cwd=folder,
        env=go.environment(folder),
        log=layout.logs / f"build-{module}.log",
    )
    return Path(json.loads(listed)["Dir"])


def kind(layout: Layout) -> Path:
    """kind, not older than the node images that we use need."""
    return _found("kind", os.environ.get("PATH")) or go_tool("kind", layout)


def kubectl(layout: Layout) -> Path:
    """kubectl within one minor version of the cluster."""
    return _found("kubectl", os.environ.get("PATH")) or go_tool("kubectl", layout)


def any_kubectl(layout: Layout) -> Path:
    """kubectl for a cluster of the user's own: the one that the user reaches it with."""
    found = shutil.which("kubectl")
    return Path(found) if found is not None else go_tool("kubectl", layout)


def helm(layout: Layout) -> Path:
    """Helm 3 or 4."""
    return _found("helm", os.environ.get("PATH")) or go_tool("helm", layout)


def missing(layout: Layout) -> list[str]:
    """Those of kind, kubectl and helm that a call would have to build."""
    return [
        name
        for name in _PUBLISHED
        if not is_built(name, layout) and _found(name, os.environ.get("PATH")) is None
    ]


def is_built(binary: str, layout: Layout) -> bool:
    """Whether an earlier call of `go_tool` built the program."""
    return _target(binary, layout).exists()


def fits_kind(output: str) -> bool:
    """Whether `kind version` tells of a version that we support."""
    found = re.search(r"v(\d+)\.(\d+)", output)
    return found is not None and (int(found[1]), int(found[2])) >= versions.OLDEST_KIND


def fits_kubectl(output: str) -> bool:
    """Whether `kubectl version --client --output=json` is within the supported skew."""
    found = re.search(r'"gitVersion":\s*"v1\.(\d+)\.', output)
    return found is not None and int(found[1]) in versions.KUBECTL_MINORS


def fits_helm(output: str) -> bool:
    """Whether `helm version --short` tells of a major version that we support."""
    found = re.search(r"v(\d+)\.\d+", output)
    return found is not None and int(found[1]) in versions.HELM_MAJORS


def with_folders_first(base: Mapping[str, str], *folders: Path) -> dict[str, str]:
    """`base` with the folders in front of PATH."""
    path = [str(folder) for folder in folders]
    return {**base, "PATH": ":".join([*path, base.get("PATH", os.defpath)])}


def _target(binary: str, layout: Layout) -> Path:
    tool = versions.GO_TOOLS[binary]
    return layout.binaries(tool.binary, tool.version) / tool.binary


@functools.cache
def _found(binary: str, path: str | None) -> Path | None:
    """The program on PATH, if its version fits. Asked once per command: some take a second."""
    arguments, fits = _PUBLISHED[binary]
    found = shutil.which(binary, path=path)
    if found is None:
        return None
    try:
        output = run([found, *arguments], timeout_seconds=20)
    except ToolError:
        return None
    return Path(found) if fits(output) else None


_PUBLISHED: dict[str, tuple[list[str], Callable[[str], bool]]] = {
    "kind": (["version"], fits_kind),
    "kubectl": (["version", "--client", "--output=json"], fits_kubectl),
    "helm": (["version", "--short"], fits_helm),
}
"""Programs that are taken from PATH: how each tells its version, and which fits."""
