"""Ranks as threads of the test's own process: the real group, over loopback, and the real model on each."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from octavo.config import Device, EngineConfig
from octavo.layers.ranks import ALONE, Ranks
from octavo.loading.adapter import read_adapter
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence
from octavo.worker.cpu.executor import host_pooling, host_runner
from octavo.worker.ranks.group import join_group
from octavo.worker.ranks.messages import MeetingFile
from octavo.worker.start.memory import KVCacheSize
from octavo.worker.start.plan import plan_start

_SCORED = SamplingState(SamplingParams(), None, (), ())
_SIZE = KVCacheSize(num_blocks=16, max_model_len=128, is_capped=False)
_T = TypeVar("_T")


@dataclass(frozen=True)
class LoneRank:
    """One of several, whose sums nobody makes whole."""

    rank: int
    size: int = 2

    def all_reduce(self, partial: torch.Tensor) -> torch.Tensor:
        return partial

    def gather(self, part: torch.Tensor) -> list[torch.Tensor] | None:
        return None

    def from_first(self, values: torch.Tensor) -> None:
        pass


def on_ranks(size: int, work: Callable[[Ranks], _T]) -> list[_T]:
    """What each of `size` ranks makes of it."""
    if size == 1:
        return [work(ALONE)]
    results: dict[int, _T] = {}
    errors: list[BaseException] = []

    def run(rank: int, meeting_file: Path) -> None:
        try:
            ranks = join_group(
                rank,
                size,
                meeting=MeetingFile(str(meeting_file)),
                timeout_seconds=30.0,
            )
            results[rank] = work(ranks)
        except BaseException as error:
            errors.append(error)

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "group"
        threads = [threading.Thread(target=run, args=(rank, place)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return [results[rank] for rank in range(size)]


def scores(
    folder: Path,
    size: int,
    *,
    adapter: Path | None = None,
    batches: Sequence[Sequence[ScheduledSequence]] | None = None,
    **changes: object,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of the model in `folder` on `size` ranks, each rank's scores and hidden states: of two prompts' ends,
    of a token after each, and of drafts behind these; with an adapter, of the same prompts, the first of
    which has it. Or those of other batches."""
    values: dict[str, object] = {"dtype": "float32", "device": Device.CPU}
    if adapter is not None:
        values["enable_lora"] = True
    config = EngineConfig(
        model=str(folder),
        tensor_parallel_size=size,
        **{**values, **changes},  # type: ignore[arg-type]
    )
    # Several threads would change what transformers' loading changes in all of the process.
    plans = [plan_start(config) for _ in range(size)]
    if batches is None:
        batches = BATCHES if adapter is None else (*BATCHES, ADAPTED)

    def work(ranks: Ranks) -> tuple[torch.Tensor, torch.Tensor]:
        plan = plans[ranks.rank]
        model = plan.build(ranks)
        if adapter is not None and plan.adapters is not None:
            plan.adapters.add(ADAPTER, read_adapter(adapter))
        pooling = host_pooling(config, model.spec)
        runner = host_runner(
            config, model, _SIZE, device=plan.device, dtype=plan.dtype, pooling=pooling
        )
        found = []
        for batch in batches:
            result = runner.run(batch)
            assert result.logits is not None
            assert result.hidden is not None
            found.append((result.logits, result.hidden))
        logits, hidden = zip(*found, strict=True)
        return torch.cat(logits), torch.cat(hidden)

    return on_ranks(size, work)


def sequence(
    number: int, token_ids: list[int], start: int, *, num_drafts: int = 0, adapter_id: int = 0
) -> ScheduledSequence:
    blocks = [[3, 9, 1], [7, 2, 5], [10, 0, 11], [13, 15, 14]][number]
    return ScheduledSequence(
        number,
        token_ids,
        start,
        blocks,
        _SCORED,
        num_drafts=num_drafts,
        adapter_id=adapter_id,
    )


ADAPTER = 7
FIRST, SECOND = [(7 * i) % 90 for i in range(37)], [(11 * i + 5) % 90 for i in range(18)]
DRAFTED = [5, 61, 8]
BATCHES = (
    [sequence(0, FIRST, 0), sequence(1, SECOND, 0)],
    [sequence(0, [44], len(FIRST)), sequence(1, [3], len(SECOND))],
    [
        sequence(0, DRAFTED, len(FIRST) + 1, num_drafts=len(DRAFTED) - 1),
        sequence(1, [17], len(SECOND) + 1),
    ],
)
ADAPTED = [sequence(2, FIRST, 0, adapter_id=ADAPTER), sequence(3, SECOND, 0)]
