"""The ops port of a running server: probes, metrics, and what the log tells."""

from __future__ import annotations

import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.runtime.server_process import ServerProcess, eventually


@pytest.fixture
def ops(server: ServerProcess) -> httpx.Client:
    return httpx.Client(base_url=server.ops_url, timeout=60)


def test_probes_of_a_ready_server(ops: httpx.Client) -> None:
    assert ops.get("/livez").json() == {"status": "alive"}
    eventually(lambda: ops.get("/readyz").json() == {"status": "ready"})
    startup = ops.get("/startupz")
    assert startup.status_code == 200
    report = startup.json()
    assert report["started"] is True
    names = [phase["name"] for phase in report["phases"]]
    assert names[0] == "resolve"
    assert "load" in names
    assert all(phase["done"] for phase in report["phases"])
    assert sum(phase["seconds"] for phase in report["phases"]) <= report["seconds"] + 0.01


def test_other_paths_and_methods(ops: httpx.Client) -> None:
    assert ops.get("/v1/models").status_code == 404
    assert ops.post("/livez").status_code == 405


def test_metrics_count_a_request(server: ServerProcess, http: httpx.Client) -> None:
    before = server.metrics()
    body = {"model": "demo", "prompt": [5] * 20, "max_tokens": 10, "ignore_eos": True, "n": 2}
    assert http.post("/v1/completions", json=body).status_code == 200
    after = server.metrics()

    def grown(name: str) -> float:
        return after[name] - before[name]

    assert grown("octavo_generation_tokens_total") == 20
    assert grown("octavo_prompt_tokens_total") in (20, 40)  # shared or not by the two
    assert grown('octavo_requests_total{finish_reason="length"}') == 2
    assert grown("octavo_time_to_first_token_seconds_count") == 2
    assert grown("octavo_inter_token_latency_seconds_count") >= 2
    assert grown("octavo_request_duration_seconds_count") == 1
    assert grown("octavo_queue_time_seconds_count") == 2
    assert after["octavo_requests_running"] == after["octavo_requests_waiting"] == 0
    assert after["octavo_kv_cache_usage_ratio"] == 0


def test_every_metric_of_the_design_is_there_with_the_model_label(ops: httpx.Client) -> None:
    families = {
        family.name: family for family in text_string_to_metric_families(ops.get("/metrics").text)
    }
    for name in (
        "octavo_requests_waiting",
        "octavo_requests_running",
        "octavo_kv_cache_usage_ratio",
        "octavo_time_to_first_token_seconds",
        "octavo_inter_token_latency_seconds",
        "octavo_request_duration_seconds",
        "octavo_queue_time_seconds",
        "octavo_prompt_tokens",
        "octavo_generation_tokens",
        "octavo_prefix_cache_hit_tokens",
        "octavo_preemptions",
        "octavo_requests",
        "octavo_requests_rejected",
        "octavo_startup_phase_seconds",
        "octavo_startup_bytes",
        "octavo_startup_expected_bytes",
    ):
        samples = families[name].samples
        assert samples, name
        assert all(sample.labels["model"] == "demo" for sample in samples), name
    assert families["octavo_requests_waiting"].type == "gauge"
    assert families["octavo_requests_running"].type == "gauge"


def test_refusals_are_counted_by_their_code(server: ServerProcess, http: httpx.Client) -> None:
    name = 'octavo_requests_rejected_total{reason="model_not_found"}'
    before = server.metrics().get(name, 0)
    http.post("/v1/completions", json={"model": "secret-name", "prompt": "a"})
    assert server.metrics()[name] == before + 1
    assert not any("secret-name" in sample for sample in server.metrics())


def test_one_log_line_per_request_and_no_prompt_in_it(
    server: ServerProcess, http: httpx.Client
) -> None:
    body = {"model": "demo", "prompt": "my secret prompt", "max_tokens": 3, "ignore_eos": True}
    http.post("/v1/completions", json=body, headers={"x-request-id": "log-test"})

    def lines() -> list[dict[str, object]]:
        return [line for line in server.log if line.get("request_id") == "log-test"]

    eventually(lambda: lines())
    (line,) = lines()
    assert line["event"] == "request"
    assert line["completion_tokens"] == 3
    assert line["finish_reason"] == "length"
    assert "secret prompt" not in "".join(server.stderr)


def test_an_idle_server_uses_no_cpu(server: ServerProcess) -> None:
    def cpu_seconds() -> float:
        return server.metrics()["process_cpu_seconds_total"]

    before, began = cpu_seconds(), time.monotonic()
    time.sleep(2)
    assert cpu_seconds() - before < 0.15 * (time.monotonic() - began)
