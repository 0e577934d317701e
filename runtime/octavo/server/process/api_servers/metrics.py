"""Metrics over several API processes: each writes what it counts into files of its own, and whoever is
scraped adds them up. What a process counted stays when it is gone, so that no counter ever falls.

Counters and histograms are the Prometheus client's, in its multiprocess mode; the latency between tokens,
which is observed with every token, lies in an array of ours.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from octavo.outputs import FinishReason
from octavo.server.process.api_servers.metric_files import count_in_allocated_files, mapped
from octavo.server.process.engine_view import EngineView
from octavo.server.process.exposition import Exposition
from octavo.server.process.latency_histogram import LatencyHistogram
from octavo.server.process.lifecycle import Lifecycle
from octavo.server.process.request_metrics import RequestMetrics, inter_token_latency
from octavo.server.process.vllm_metrics import RENAMED, VllmNames

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Of the environment, by which the Prometheus client knows that it is one process of several."""
_ENDS = "octavo_requests"
_CELL_BYTES = 8
_CELLS = "between_tokens-{}"


def request_metrics(
    model: str, folder: Path, process: str, *, has_vllm_names: bool
) -> RequestMetrics:
    """Of one API process, which was started with `FOLDER_VARIABLE`. `process` is its name."""
    num_cells = inter_token_latency(model).num_cells
    count_in_allocated_files()
    path = folder / _CELLS.format(process)
    cells = memoryview(mapped(path, _CELL_BYTES * num_cells)).cast("d")
    return RequestMetrics(model, CollectorRegistry(), has_vllm_names=has_vllm_names, cells=cells)


class SummedMetrics(Exposition):
    """All metrics of a server, those of its API processes summed. Args: as `ServerMetrics`.

    Args:
        folder: Where those write.
    """

    def __init__(
        self,
        model: str,
        lifecycle: Lifecycle,
        read_engine: Callable[[], EngineView | None],
        folder: Path,
        *,
        has_vllm_names: bool = False,
    ) -> None:
        super().__init__(model, lifecycle, read_engine)
        of_requests = _OfFiles(folder, read_engine)
        between_tokens = _BetweenTokens(model, folder)
        self.registry.register(of_requests)
        self.registry.register(between_tokens)
        if has_vllm_names:
            same = (_OfFiles(folder, read_engine, RENAMED), between_tokens)
            self.registry.register(VllmNames(model, read_engine, same))


class _OfFiles(Collector):
    """The Prometheus client's own; `names` alone, if they are given. Sequences whose process is gone ended
    with an error of ours, which the engine alone has counted."""

    def __init__(
        self,
        folder: Path,
        read_engine: Callable[[], EngineView | None],
        names: Collection[str] | None = None,
    ) -> None:
        self._files = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]
        self._read_engine = read_engine
        self._names = names

    def collect(self) -> Iterator[Metric]:
        for family in self._files.collect():  # type: ignore[no-untyped-call]
            if family.name == _ENDS:
                family.samples = [self._with_orphans(sample) for sample in family.samples]
            if self._names is None or family.name in self._names:
                yield family

    def _with_orphans(self, sample: Sample) -> Sample:
        view = self._read_engine()
        if view is None or sample.labels.get("finish_reason") != FinishReason.ERROR.value:
            return sample
        return sample._replace(value=sample.value + view.stats.sequences_orphaned_total)


class _BetweenTokens(Collector):
    def __init__(self, model: str, folder: Path) -> None:
        self._model = model
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        sums = [0.0] * self._histogram().num_cells
        for path in self._folder.glob(_CELLS.format("*")):
            cells = array("d", path.read_bytes())
            sums = [before + here for before, here in zip(sums, cells, strict=True)]
        return self._histogram(sums).collect()

    def _histogram(self, cells: list[float] | None = None) -> LatencyHistogram:
        return inter_token_latency(self._model, cells)
