"""What the demo tells when the cluster goes away under it."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.demo.__main__ import _tell
from e2e.lib.environment import Environment
from e2e.lib.install import Helm, Images
from e2e.lib.kubectl import Kubectl
from e2e.paths import Layout


def test_the_first_error_is_told_where_the_clean_up_fails_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "kubectl"
    program.write_text('#!/bin/sh\necho "connection refused for $*" >&2; exit 1\n')
    program.chmod(0o755)
    kubectl = Kubectl(str(program), tmp_path / "kubeconfig")
    cluster = Cluster(
        "x", tmp_path / "kubeconfig", program, program, "", True, None, Layout(tmp_path)
    )
    environment = Environment(
        cluster, Images("r/o:1", "r/t:1"), kubectl, Helm(str(program), kubectl), ""
    )
    assert _tell(environment, "default", "bring up", "take down") == 1
    told = capsys.readouterr().err
    first, rest = told.split("The demo failed: ")[1].split("The client's pod was not removed: ")
    assert "get namespace default" in first
    assert "delete pod" in rest
