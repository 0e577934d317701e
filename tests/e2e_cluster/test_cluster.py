"""A cluster that somebody else made is neither used nor removed.

Docker and kind are stood in for by programs that write down what they were told.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.cluster import cluster
from e2e.paths import Layout
from e2e.preflight import machine as preflight
from e2e.programs import binaries
from e2e.without_docker import engine
from host.errors import ToolError

# What docker answers where a kind cluster `octavo` runs, and a record of what it and kind were told.
DOCKER = """#!/bin/sh
echo "docker $*" >> {log}
case "$*" in
  *label=io.x-k8s.kind.cluster=octavo*) echo octavo-control-plane ;;
  "inspect octavo-registry") exit 1 ;;
esac
"""
KIND = """#!/bin/sh
echo "kind $*" >> {log}
[ "$1" = version ] && echo "kind v0.33.0 go1.26.0 linux/amd64" || true
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the user's Docker, on which a kind cluster called `octavo` runs."""
    log, programs = tmp_path / "log", tmp_path / "programs"
    log.touch()
    programs.mkdir()
    for name, text in (("docker", DOCKER), ("kind", KIND)):
        (programs / name).write_text(text.format(log=log))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OCTAVO_ENGINE", raising=False)
    # It would tidy up this machine's control groups, under a cluster that may run.
    monkeypatch.setattr(engine, "stop", lambda _layout: None)
    return log


def layout(log: Path) -> Layout:
    return Layout(log.parent / "cache")


def write_record(log: Path, *, is_kind: bool) -> None:
    folder = layout(log).cluster("octavo")
    folder.mkdir(parents=True)
    record = {"is_kind": is_kind, "enforces_network_policy": None}
    (folder / "cluster.json").write_text(json.dumps(record))


def test_somebody_elses_cluster_of_our_name_is_not_removed(log: Path) -> None:
    with pytest.raises(ToolError, match="Octavo did not start") as caught:
        cluster.remove_cluster("octavo")
    assert "kind delete cluster --name octavo" in caught.value.hint
    cluster.remove_cluster("octavo", everything=True)
    assert "kind delete" not in log.read_text()


def test_somebody_elses_cluster_of_our_name_is_neither_used_nor_made_anew(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "problems", lambda _machine: [])
    with pytest.raises(ToolError, match="Octavo did not start"):
        cluster.ensure_cluster("octavo")
    # The context of the same cluster was adopted: that makes it no cluster of ours either.
    write_record(log, is_kind=False)
    with pytest.raises(ToolError, match="Octavo did not start"):
        cluster.ensure_cluster("octavo")
    assert "kind delete" not in log.read_text()
    assert "kind create" not in log.read_text()


def test_our_own_cluster_is_removed(log: Path) -> None:
    write_record(log, is_kind=True)
    cluster.remove_cluster("octavo")
    assert "kind delete cluster --name octavo" in log.read_text()
    assert not layout(log).cluster("octavo").exists()


def test_a_start_that_made_no_node_is_forgotten_without_kind(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout(log).cluster("broken").mkdir(parents=True)
    (log.parent / "programs/kind").unlink()
    monkeypatch.setattr(binaries, "go_tool", lambda *_: pytest.fail("built kind"))
    cluster.remove_cluster("broken")
    assert not layout(log).cluster("broken").exists()


def test_an_adopted_cluster_is_only_forgotten(log: Path) -> None:
    write_record(log, is_kind=False)
    cluster.remove_cluster("octavo")
    assert "kind delete" not in log.read_text()
    assert not layout(log).cluster("octavo").exists()


def test_nothing_to_take_down_is_said(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.remove_cluster("other")
    assert "Nothing to take down" in capsys.readouterr().err
    assert "kind delete" not in log.read_text()
