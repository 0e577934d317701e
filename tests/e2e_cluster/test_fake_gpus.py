"""A node is patched to claim GPUs, and to claim none."""

from __future__ import annotations

import json

import pytest

from e2e.cluster.fake_gpus import patch, set_fake_gpus


def test_capacity_and_allocatable_agree() -> None:
    status = json.loads(patch(2))["status"]
    assert status["capacity"] == status["allocatable"] == {"nvidia.com/gpu": "2"}


def test_zero_takes_the_resource_away() -> None:
    assert json.loads(patch(0))["status"]["capacity"] == {"nvidia.com/gpu": None}


def test_less_than_none_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        patch(-1)


def test_every_node_is_patched_once() -> None:
    commands: list[tuple[str, ...]] = []

    def kubectl(*arguments: str) -> str:
        commands.append(arguments)
        return ""

    set_fake_gpus(kubectl, ["a", "b"], 1)
    assert [command[2] for command in commands] == ["a", "b"]
    assert all("--subresource=status" in command for command in commands)
