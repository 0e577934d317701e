"""View of the engine: what gauges, the page and `octavo top` show of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from octavo.engine.messages import EngineStats


@dataclass(frozen=True, slots=True)
class AdapterNames:
    """Of a server that takes adapters: their names by the engine's ids, and how many may run at once."""

    by_id: dict[int, str]
    max_loras: int

    def of(self, ids: Iterable[int]) -> list[str]:
        """In the alphabet's order, once each. One whose name was taken back has none."""
        return sorted({self.by_id[one] for one in ids if one in self.by_id})


@dataclass(frozen=True, slots=True)
class EngineView:
    """The engine's latest snapshot. `num_under_way` sequences were sent and are not in `stats` yet;
    `block_size` is in tokens, 0 before the engine runs; `adapters` are told where metrics are read, if there
    may be any."""

    stats: EngineStats
    num_under_way: int = 0
    block_size: int = 0
    adapters: AdapterNames | None = None

    @classmethod
    def of_nothing(cls) -> EngineView:
        """Of a server that still loads: empty queues let the autoscaler tell it from a dead one."""
        return cls(EngineStats(0, 0, 0, 0, 0, 0, 0, 0, 0))

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for their first step."""
        return self.stats.num_waiting + self.num_under_way

    @property
    def kv_cache_usage(self) -> float:
        """Share of the blocks in use; 0 where there are none."""
        total = self.stats.kv_blocks_total
        return self.stats.kv_blocks_used / total if total else 0.0
