"""Helm: the chart rendered, or refused, and what to find in it."""

from __future__ import annotations

import copy
import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.requirements import Requirement, lacks

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "octavo"
CRD = "llmdeployments.octavo.dev"


Object = dict[str, Any]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _find_helm() -> str | None:
    cache = Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo")
    cached = sorted(cache.glob("bin/helm-*/helm"))
    return str(cached[-1]) if cached else shutil.which("helm")


HELM = _find_helm()
if HELM is None:
    lacks(Requirement.HELM, "helm is not here: make cluster-up builds it")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)


def render(*settings: str) -> list[Object]:
    return copy.deepcopy(_rendered(settings))


@functools.cache
def _rendered(settings: tuple[str, ...]) -> list[Object]:
    """Many tests look at the same; the definition is most of it, and slow to read."""
    flags = [word for setting in settings for word in ("--set", setting)]
    done = helm("template", "octavo", str(CHART), "--namespace", "octavo-system", *flags)
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def read(text: str) -> list[Object]:
    """Of a rendered chart."""
    return [each for each in yaml.load_all(text, Loader=_LOADER) if each]


def refusal(*settings: str) -> str:
    flags = [word for setting in settings for word in ("--set", setting)]
    done = helm("template", "octavo", str(CHART), *flags)
    assert done.returncode != 0, f"the chart accepted {settings}"
    return done.stderr


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [item for item in objects if item["kind"] == kind]


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found


def operator(objects: list[Object]) -> tuple[Object, Object]:
    """The operator's pod spec and its one container."""
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def environment(objects: list[Object]) -> dict[str, str]:
    _, container = operator(objects)
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}
