"""The metrics that the operator, the chart and the demo read are metrics that somebody exposes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from octavo.engine.messages import EngineStats
from octavo.server.process.engine_view import EngineView
from octavo.server.process.lifecycle import Lifecycle
from octavo.server.process.metrics import ServerMetrics
from octavo_operator import metrics as operator_metrics
from octavo_operator.autoscale import prometheus
from octavo_operator.autoscale.load import ReplicaLoad
from octavo_operator.crd import crd
from octavo_operator.manifest import ObjectKey

ROOT = Path(__file__).parents[2]
READERS = ("operator", "charts", "e2e", "benchmarks", "examples")
# No metrics: names of packages, of functions and of results.
_NAME = re.compile(r"\boctavo_(?!operator\b|tokens_per_second\b|calls\b)[a-z][a-z_]*[a-z]\b")


def stats(**fields: Any) -> EngineStats:
    names = EngineStats.__struct_fields__
    required = names[: len(names) - len(EngineStats.__struct_defaults__)]
    return EngineStats(**dict.fromkeys(required, 0) | fields)


def server_metrics(view: EngineView | None) -> ServerMetrics:
    lifecycle = Lifecycle(lambda: 0.0)
    lifecycle.begin_phase("load")
    lifecycle.mark_ready()
    return ServerMetrics("llama", lifecycle, lambda: view)


def exposed() -> set[str]:
    """Every name of a series of either program."""
    names = set()
    text = server_metrics(None).exposition() + operator_metrics.exposition()
    for family in text_string_to_metric_families(text.decode()):
        names |= {family.name, *(sample.name for sample in family.samples)}
    return names


def as_prometheus_answers(text: str) -> dict[str, Any]:
    """An instant vector of what one pod exposes."""
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    return {
        "data": {
            "result": [
                {
                    "metric": {
                        "__name__": each.name,
                        "namespace": "team",
                        "pod": "llama-1",
                        **each.labels,
                    },
                    "value": [0, str(each.value)],
                }
                for each in samples
            ]
        }
    }


@pytest.mark.parametrize(
    ("view", "load"),
    [
        (None, ReplicaLoad(0.0, 0.0, 0.0)),  # a server that still loads is idle, not absent
        (
            EngineView(
                stats(num_waiting=3, num_running=2, kv_blocks_used=1, kv_blocks_total=4),
                num_under_way=4,
            ),
            ReplicaLoad(7.0, 2.0, 0.25),
        ),
    ],
    ids=["starting", "busy"],
)
def test_the_autoscaler_reads_the_load_that_the_runtime_exposes(
    view: EngineView | None, load: ReplicaLoad
) -> None:
    answer = as_prometheus_answers(server_metrics(view).exposition().decode())
    found = prometheus._loads(prometheus._series(answer))
    assert found == {ObjectKey("team", "llama-1"): load}


def test_the_queries_name_what_is_exposed() -> None:
    queries = f"{prometheus._VALUES_QUERY} {prometheus._TIMES_QUERY}"
    assert set(_NAME.findall(queries)) <= exposed()
    assert len(set(_NAME.findall(queries))) == 3


def test_what_counts_sequences_says_so() -> None:
    """A request with `n: 4` is four of them, in the queue, in the metrics and in the autoscaler."""
    text = server_metrics(None).exposition().decode()
    told = {each.name: each.documentation for each in text_string_to_metric_families(text)}
    for name in (prometheus.WAITING, prometheus.RUNNING, "octavo_requests", "octavo_preemptions"):
        assert told[name].startswith("Sequences that "), name
    root = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    spec, status = root["spec"]["properties"], root["status"]["properties"]
    counted = {
        "queueDepth": spec["autoscaling"]["properties"]["queueDepth"],
        "maxNumSeqs": spec["engine"]["properties"]["maxNumSeqs"],
        "maxQueuedRequests": spec["engine"]["properties"]["maxQueuedRequests"],
        "queue": status["queue"],
    }
    for name, node in counted.items():
        assert "equences" in node["description"].split(".")[0], name
        assert "equests" not in node["description"], name


@pytest.mark.parametrize("folder", READERS)
def test_every_metric_that_is_named_exists(folder: str) -> None:
    known = exposed()
    for file in (ROOT / folder).rglob("*"):
        if file.suffix in (".py", ".yaml", ".tpl", ".json", ".md", ".txt") and file.is_file():
            unknown = set(_NAME.findall(file.read_text("utf-8"))) - known
            assert not unknown, file
