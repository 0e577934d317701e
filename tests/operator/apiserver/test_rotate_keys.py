"""Rotation of API keys: the commands of the page do what they say, and kubectl has nothing to complain of."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest
import yaml

from tests.support.operator.admin import Admin
from tests.support.operator.control_plane import ControlPlane, find_binary
from tests.support.requirements import Requirement, lacks

PAGE = (Path(__file__).parents[3] / "docs/how-to/rotate-keys.md").read_text(encoding="utf-8")
COMMANDS = [textwrap.dedent(block) for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)]


def kept(admin: Admin, namespace: str, name: str) -> dict[str, str]:
    secret = admin.get(f"/api/v1/namespaces/{namespace}/secrets/{name}") or {}
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Path:
    """The administrator's, in the namespace of the test."""
    config = yaml.safe_load(control_plane.kubeconfig.read_text(encoding="utf-8"))
    config["contexts"][0]["context"]["namespace"] = namespace
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def test_the_commands_of_the_page_rotate_keys_without_a_warning(
    admin: Admin, namespace: str, kubeconfig: Path
) -> None:
    kubectl = find_binary("kubectl")
    if kubectl is None:
        lacks(Requirement.API_SERVER, "kubectl is not here: `make cluster-up` builds it")
    create, create_team, add, look, remove, change_team, roll = COMMANDS
    pod = {
        "metadata": {"name": "llama-1", "labels": {"octavo.dev/llmdeployment": "llama"}},
        "spec": {"containers": [{"name": "octavo", "image": "registry.example/octavo-runtime:1"}]},
    }
    admin.create(f"/api/v1/namespaces/{namespace}/pods", pod)
    environment = {
        "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(kubeconfig),
        "HOME": str(kubeconfig.parent),
    }

    def run(*commands: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    run(create)
    old = kept(admin, namespace, "llama-keys")["api-key"]
    run(add, look)
    first, new = kept(admin, namespace, "llama-keys")["api-key"].split()
    assert (first, len(new)) == (old, 64)
    annotations = admin.items(f"/api/v1/namespaces/{namespace}/pods")[0]["metadata"]["annotations"]
    assert annotations.keys() == {"example.com/keys"}
    # In the shell of a person NEW has its value still.
    run(f"NEW={new}", remove)
    assert kept(admin, namespace, "llama-keys") == {"api-key": new}
    run(create_team)
    before = kept(admin, namespace, "team-keys")
    run(change_team)
    after = kept(admin, namespace, "team-keys")
    assert (set(before), set(after)) == ({"red", "blue"}, {"red", "green"})
    assert before["red"] == after["red"]
    assert "kubectl patch llmd" in roll
