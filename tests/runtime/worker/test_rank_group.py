"""Process group of the ranks of one machine."""

from __future__ import annotations

import pytest
import torch

from octavo.layers.ranks import Ranks
from octavo.worker.ranks import group
from tests.support.runtime.rank_threads import on_ranks

NOWHERE = "192.0.2.1"
"""No machine's: of the addresses for documentation."""


def total(ranks: Ranks) -> list[float]:
    return ranks.all_reduce(torch.full((2,), ranks.rank + 1.0)).tolist()


def test_ranks_meet_on_a_machine_of_version_6_of_ip_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "_LOOPBACKS", (NOWHERE, "::1"))
    assert on_ranks(2, total) == [[3.0, 3.0]] * 2


def test_a_machine_without_a_loopback_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "_LOOPBACKS", (NOWHERE, "2001:db8::1"))
    with pytest.raises(group.RankLostError, match=r"neither of 192\.0\.2\.1 and 2001:db8::1"):
        on_ranks(2, total)
