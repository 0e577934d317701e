"""What the engine reads from the machine, and what it writes to its network."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.without_docker.engine import find_process, lacks_sys_resource
from e2e.without_docker.outbound import ruleset


@pytest.mark.parametrize(
    ("bounding", "lacks"),
    [("000001fffeffffff", True), ("000001ffffffffff", False), ("0000000000000000", True)],
)
def test_the_bounding_set_tells_whether_the_capability_is_there(bounding: str, lacks: bool) -> None:
    status = f"Name:\tpython\nCapEff:\t0000000001000000\nCapBnd:\t{bounding}\n"
    assert lacks_sys_resource(status) is lacks


def test_outbound_rules_stay_in_one_table_that_is_ours() -> None:
    for line in ruleset("br0").splitlines():
        assert line.split()[2:4] == ["ip", "octavo"]
    assert 'iifname "br0" oifname != "br0" masquerade' in ruleset("br0")


def process(root: Path, pid: int, *arguments: str) -> None:
    (root / str(pid)).mkdir()
    (root / str(pid) / "cmdline").write_bytes("\0".join(arguments).encode() + b"\0")


def test_our_engine_is_found_by_its_folder_and_no_other_process_is(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    ours = "--data-root=/cache/engine/data"
    process(tmp_path, 10, "dockerd", ours)  # its child, which dies with it
    process(tmp_path, 11, "unshare", "--mount", "dockerd", "--data-root=/other/engine/data")
    process(tmp_path, 12, "grep", ours)
    assert find_process(Path("/cache/engine"), tmp_path) is None
    process(tmp_path, 13, "/usr/bin/unshare", "--mount", "dockerd", ours, "--bridge=none")
    assert find_process(Path("/cache/engine"), tmp_path) == 13
