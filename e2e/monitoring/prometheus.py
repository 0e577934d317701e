"""Real Prometheus in the cluster: it scrapes every pod that is annotated for it, every 5 s."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from e2e import versions
from e2e.docker import Engine, load
from e2e.image_archive import Image, layer_of_folder
from e2e.paths import Layout
from e2e.programs import binaries
from e2e.registry import container as registry
from host.progress import step

NAMESPACE = "monitoring"
URL = f"http://prometheus.{NAMESPACE}.svc:9090"
_PLACEHOLDER = "PROMETHEUS_IMAGE"
_MANIFEST = Path(__file__).parent / "prometheus.yaml"


def install(kubectl: Callable[..., str], image: str) -> None:
    """Apply Prometheus and wait until it answers."""
    text = _MANIFEST.read_text().replace(_PLACEHOLDER, image)
    with step(f"Start Prometheus in the namespace {NAMESPACE}"):
        kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=text)
        rollout = ["rollout", "status", "deployment/prometheus", "--timeout=180s"]
        kubectl("--namespace", NAMESPACE, *rollout)


def ensure_image(engine: Engine, layout: Layout) -> str:
    """The image's name for pods: published if it can be pulled, else made of the built program.

    Debian's package would need no build, but it is compiled without Kubernetes' discovery.
    """
    source = versions.PUBLISHED_PROMETHEUS_IMAGE
    name = f"octavo-prometheus:{versions.PROMETHEUS}"
    if engine.has_image(f"localhost/{name}") or not engine.pull(source):
        source = f"localhost/{name}"
    if not engine.has_image(source):
        _build(engine, source, layout)
    target = f"{registry.ADDRESS}/{name}"
    registry.push(engine, source, target, layout.logs / "push.log")
    return target


def _build(engine: Engine, reference: str, layout: Layout) -> None:
    binary = binaries.go_tool("prometheus", layout)
    work = layout.root / "prometheus-image"
    shutil.rmtree(work, ignore_errors=True)
    (work / "root/bin").mkdir(parents=True)
    shutil.copy2(binary, work / "root/bin/prometheus")
    config: dict[str, object] = {"Entrypoint": ["/bin/prometheus"], "User": "65534:65534"}
    layer = layer_of_folder(work / "root", work / "layer.tar")
    load(engine, Image((reference,), (layer,), config))
    shutil.rmtree(work)
