"""A machine that can't run a cluster is told everything that is missing, by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from e2e.preflight.machine import (
    ALL_BUILDS_BYTES,
    GB,
    Later,
    Machine,
    check,
    needed_bytes,
    problems,
)
from host.errors import ToolError

BARE_DEBIAN = Machine(
    system="Linux",
    architecture="x86_64",
    is_root=True,
    has_docker=False,
    go_version=(1, 26, 8),
    has_node_image=False,
    has_built_binaries=False,
    missing_tools=("kind", "kubectl", "helm"),
    cache=Path("/root/.cache/octavo"),
    free_bytes=100 * 1000**3,
    new_pod_nodes=1,
    missing_programs=(),
    registry_port_is_taken=False,
)


def test_a_bare_debian_with_go_is_enough() -> None:
    assert problems(BARE_DEBIAN) == []


def test_docker_with_the_published_tools_needs_neither_root_nor_go() -> None:
    laptop = dataclasses.replace(
        BARE_DEBIAN,
        system="Darwin",
        is_root=False,
        has_docker=True,
        go_version=None,
        missing_tools=(),
    )
    assert problems(laptop) == []


def test_docker_without_tools_and_go_names_each_missing_tool() -> None:
    machine = dataclasses.replace(
        BARE_DEBIAN, has_docker=True, go_version=None, missing_tools=("kind", "helm")
    )
    [problem] = problems(machine)
    assert "kind, helm" in problem
    assert "Go" in problem


def test_without_docker_one_must_be_root() -> None:
    [problem] = problems(dataclasses.replace(BARE_DEBIAN, is_root=False))
    assert "not root" in problem


def test_without_docker_go_is_needed_until_all_is_built() -> None:
    without_go = dataclasses.replace(BARE_DEBIAN, go_version=None)
    assert any("Go was not found" in problem for problem in problems(without_go))
    built = dataclasses.replace(without_go, has_built_binaries=True, missing_tools=())
    assert problems(built) == []


@pytest.mark.parametrize("has_docker", [False, True])
def test_a_go_too_old_for_todays_modules_is_told_with_its_version(has_docker: bool) -> None:
    old = dataclasses.replace(BARE_DEBIAN, has_docker=has_docker, go_version=(1, 19, 8))
    [problem] = problems(old)
    assert "the Go on PATH is 1.19.8 and 1.21 is the oldest" in problem
    assert "go.dev/dl" in problem
    assert problems(dataclasses.replace(old, go_version=(1, 21, 0))) == []


def test_a_port_that_somebody_else_has_is_told() -> None:
    [problem] = problems(dataclasses.replace(BARE_DEBIAN, registry_port_is_taken=True))
    assert "127.0.0.1:5001" in problem


def test_missing_programs_are_named() -> None:
    machine = dataclasses.replace(BARE_DEBIAN, missing_programs=("apt-get", "dpkg-deb"))
    [problem] = problems(machine)
    assert "apt-get, dpkg-deb" in problem


def test_too_little_disk_says_what_is_free_and_what_is_needed() -> None:
    [problem] = problems(dataclasses.replace(BARE_DEBIAN, free_bytes=ALL_BUILDS_BYTES - 1))
    assert "20.0 GB free and 20 GB are needed" in problem


def test_built_programs_spare_their_room_and_each_new_node_wants_its_own() -> None:
    warm = dataclasses.replace(BARE_DEBIAN, has_built_binaries=True)
    one, two = (
        needed_bytes(dataclasses.replace(warm, new_pod_nodes=count)) / 1e9 for count in (1, 2)
    )
    assert (one, two) == (10, 16)
    running = dataclasses.replace(warm, has_docker=True, has_node_image=True, new_pod_nodes=0)
    assert needed_bytes(running) == 0


def test_packages_images_and_pods_are_asked_for_together() -> None:
    later = Later(packages=7 * GB, image_peak=16 * GB, image_left=9 * GB)
    demo = dataclasses.replace(BARE_DEBIAN, later=later)
    assert needed_bytes(demo) == (7 + 9 + 9 + 6 + 3) * GB  # at the end, when the pods run
    running = dataclasses.replace(demo, new_pod_nodes=0, has_docker=True, has_node_image=True)
    assert needed_bytes(running) == (7 + 16) * GB  # while the images are built
    without_cuda = dataclasses.replace(demo, has_cpu_torch=True, later=Later(image_left=9 * GB))
    assert needed_bytes(without_cuda) == 20 * GB  # less than the builds
    assert needed_bytes(dataclasses.replace(without_cuda, has_docker=True)) == (1 + 6) * GB
    packages = dataclasses.replace(BARE_DEBIAN, later=Later(packages=7 * GB))
    assert needed_bytes(packages) == (7 + 20) * GB  # while Go builds


def test_a_cache_path_too_long_for_sockets_is_refused() -> None:
    [problem] = problems(dataclasses.replace(BARE_DEBIAN, cache=Path("/" + "x" * 80)))
    assert "OCTAVO_CACHE" in problem


def test_check_tells_everything_at_once() -> None:
    machine = dataclasses.replace(BARE_DEBIAN, free_bytes=0, go_version=None)
    with pytest.raises(ToolError) as caught:
        check(machine)
    assert "Go was not found" in str(caught.value)
    assert "GB free" in str(caught.value)
