"""kind's configuration for the demo and for the tests."""

from __future__ import annotations

import json

from e2e import versions
from e2e.cluster.kind import configuration
from e2e.cluster.node_image import NodeImage

BUILT = NodeImage("localhost/octavo-node:x", is_published=False)
PUBLISHED = NodeImage(versions.PUBLISHED_NODE_IMAGE, is_published=True)


def test_one_node_is_a_control_plane_alone() -> None:
    assert json.loads(configuration(0, PUBLISHED))["nodes"] == [{"role": "control-plane"}]


def test_workers_come_after_the_control_plane() -> None:
    roles = [node["role"] for node in json.loads(configuration(2, BUILT))["nodes"]]
    assert roles == ["control-plane", "worker", "worker"]


def test_a_built_node_asks_for_the_coredns_that_it_holds() -> None:
    [patch] = json.loads(configuration(0, BUILT))["kubeadmConfigPatches"]
    assert json.loads(patch)["dns"]["imageTag"] == versions.COREDNS
    assert "kubeadmConfigPatches" not in json.loads(configuration(0, PUBLISHED))
