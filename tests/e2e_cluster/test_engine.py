"""What the engine reads from the machine, and what it writes to its network."""

from __future__ import annotations

import pytest

from e2e.cluster.engine import lacks_sys_resource
from e2e.cluster.outbound import ruleset


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
