"""What versions.py says is what the committed modules build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2e import versions
from e2e.programs.binaries import tools_folder
from e2e.without_docker.control_plane_images import NODE_AGENT_IMAGE
from e2e.without_docker.node_rootfs import manifests_folder

PUBLISHED_TOOLS = [tool for tool in versions.GO_TOOLS.values() if tool.version != versions.OWN]


@pytest.mark.parametrize("tool", PUBLISHED_TOOLS, ids=lambda tool: tool.binary)
def test_module_requires_the_version_and_has_its_checksum(tool: versions.GoTool) -> None:
    folder = tools_folder() / tool.module
    lines = r"^(?:require)?\s*(\S+) (v\S+)"
    required = dict(re.findall(lines, (folder / "go.mod").read_text(), re.MULTILINE))
    owner = max((name for name in required if tool.package.startswith(name)), key=len)
    assert required[owner] == tool.version
    assert f"{owner} {tool.version} h1:" in (folder / "go.sum").read_text()


def test_kubernetes_parts_are_all_of_one_release() -> None:
    text = (tools_folder() / "kubernetes/go.mod").read_text()
    replaced = re.findall(r"^\s*k8s\.io/\S+ => k8s\.io/\S+ v0\.(\S+)", text, re.MULTILINE)
    assert len(replaced) > 20
    assert set(replaced) == {versions.KUBERNETES.removeprefix("v1.")}


@pytest.mark.parametrize(
    "image",
    [
        versions.PUBLISHED_NODE_IMAGE,
        versions.PUBLISHED_REGISTRY_IMAGE,
        versions.PUBLISHED_PROMETHEUS_IMAGE,
    ],
)
def test_published_images_are_named_by_digest(image: str) -> None:
    assert re.search(r"@sha256:[0-9a-f]{64}$", image)


def test_the_workflow_names_its_actions_by_commit() -> None:
    workflows = Path(__file__).parents[2] / ".github/workflows"
    used = re.findall(r"uses: *(\S+)", "".join(p.read_text() for p in workflows.glob("*.yml")))
    assert used
    assert [action for action in used if not re.search(r"@[0-9a-f]{40}$", action)] == []


def test_node_agent_manifest_runs_the_image_that_is_built() -> None:
    assert f"image: {NODE_AGENT_IMAGE}\n" in (manifests_folder() / "default-cni.yaml").read_text()
