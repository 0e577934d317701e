"""Kernel settings are raised to what nodes need and set back to what they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.paths import Layout
from e2e.without_docker.sysctls import LEAST, raise_all, set_back

INSTANCES = "fs/inotify/max_user_instances"
WATCHES = "fs/inotify/max_user_watches"


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    for name, value in {"net/ipv4/ip_forward": 0, INSTANCES: 128, WATCHES: 10**7}.items():
        file = tmp_path / "sys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    return tmp_path / "sys"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "cache")
    layout.engine.mkdir(parents=True)
    return layout


def value(kernel: Path, name: str) -> int:
    return int((kernel / name).read_text())


def test_low_settings_are_raised_and_high_ones_left_alone(kernel: Path, layout: Layout) -> None:
    raise_all(layout, kernel)
    assert value(kernel, INSTANCES) == LEAST[INSTANCES]
    assert value(kernel, "net/ipv4/ip_forward") == 1
    assert value(kernel, WATCHES) == 10**7


def test_all_goes_back_even_after_raising_twice(kernel: Path, layout: Layout) -> None:
    raise_all(layout, kernel)
    raise_all(layout, kernel)
    set_back(layout, kernel)
    assert value(kernel, INSTANCES) == 128
    assert value(kernel, "net/ipv4/ip_forward") == 0


def test_what_somebody_else_changed_meanwhile_stays(kernel: Path, layout: Layout) -> None:
    raise_all(layout, kernel)
    (kernel / INSTANCES).write_text("4096")
    set_back(layout, kernel)
    assert value(kernel, INSTANCES) == 4096


def test_nothing_is_touched_when_nothing_was_raised(kernel: Path, layout: Layout) -> None:
    set_back(layout, kernel)
    assert value(kernel, INSTANCES) == 128
