"""A seeded part of the hostile load that `make hostile` sends whole."""

from __future__ import annotations

import asyncio

from tests.support.runtime.footprint import Footprint, leaks
from tests.support.runtime.hostile import hostile_server, send_all


def test_strangers_get_no_5xx_and_leave_nothing_behind() -> None:
    with hostile_server() as (server, temporary):
        port = int(server.url.rpartition(":")[2])
        asyncio.run(send_all(port, 60, seed=8))  # what the first grammar opens stays open
        before = Footprint.of(server, temporary)
        outcome = asyncio.run(send_all(port, 500, seed=7))
        assert outcome.faults == []
        assert list(leaks(server, temporary, before, 512 * 2**20)) == []
        answered = {kind for kind, status in outcome.statuses if status}
        assert len(answered) == 11  # each kind was answered, some with 200
        assert sum(n for (_, status), n in outcome.statuses.items() if status == 200) > 20
