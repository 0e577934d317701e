"""`--metrics-names vllm`: what was written for vLLM's metrics finds them, on both ports of a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.runtime import vllm_queries
from tests.support.runtime.server_process import ServerProcess

KEY = {"authorization": "Bearer secret-key"}
# What Prometheus puts on each sample of a pod: `model` is the pod's label in production-stack.
BY_THE_SCRAPE = {"namespace": "team", "pod": "demo-0", "model": "demo"}
_SELECTOR = re.compile(r"(vllm:\w+)(?:\{([^}]*)\})?(\[\w+\])?")
_MATCHER = re.compile(r'(\w+)="([^"]*)"')
ALL_QUERIES = [*vllm_queries.GRAFANA, *vllm_queries.PRODUCTION_STACK, *vllm_queries.KEDA]


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[ServerProcess, str, str]]:
    """A server, and what its two ports tell after one request with n = 2 and one that hit the cache."""
    flags = ("--metrics-names", "vllm", "--public-metrics")
    with ServerProcess(*flags, OCTAVO_API_KEY="secret-key") as process:
        process.wait_ready()
        for n in (2, 1):
            body = {
                "model": "demo",
                "prompt": [5] * 40,
                "max_tokens": 8,
                "ignore_eos": True,
                "n": n,
            }
            url = f"{process.url}/v1/completions"
            assert httpx.post(url, json=body, headers=KEY, timeout=60).status_code == 200
        ops = httpx.get(f"{process.ops_url}/metrics", timeout=60)
        public = httpx.get(f"{process.url}/metrics", timeout=60)
        assert public.status_code == 200
        assert public.headers["content-type"] == ops.headers["content-type"]
        yield process, ops.text, public.text


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(text: str) -> dict[str, list[tuple[Sample, str]]]:
    """By name, each with the type of its family and the labels that a scrape adds."""
    found: dict[str, list[tuple[Sample, str]]] = {}
    for family in families(text).values():
        for sample in family.samples:
            told = sample._replace(labels=BY_THE_SCRAPE | sample.labels)
            found.setdefault(sample.name, []).append((told, family.type))
    return found


@pytest.mark.parametrize("query", ALL_QUERIES)
def test_every_query_selects_samples_of_the_type_it_needs(
    ports: tuple[ServerProcess, str, str], query: str
) -> None:
    found = samples(ports[1])
    selectors = _SELECTOR.findall(query)
    assert selectors
    for name, matchers, window in selectors:
        wanted = dict(_MATCHER.findall(matchers))
        chosen = [each for each in found.get(name, []) if wanted.items() <= each[0].labels.items()]
        assert chosen, name
        if window:  # rate and increase are of what only grows
            assert {kind for _, kind in chosen} <= {"counter", "histogram"}, name
        for label in re.findall(r"by ?\((\w+)\)", query):
            assert all(label in sample.labels for sample, _ in chosen), (name, label)


def test_pickers_of_gateways_read_their_gauges_on_the_port_of_requests(
    ports: tuple[ServerProcess, str, str],
) -> None:
    told = families(ports[2])
    for name, labels in vllm_queries.PICKERS.items():
        assert told[name].type == "gauge"
        (sample,) = told[name].samples  # they take the latest one of a family
        assert labels <= sample.labels.keys()
        assert all(int(sample.labels[label]) > 0 for label in labels)


def test_types_and_labels_are_vllms(ports: tuple[ServerProcess, str, str]) -> None:
    told = {name: each for name, each in families(ports[1]).items() if name.startswith("vllm:")}
    info = told.pop("vllm:cache_config_info")
    assert info.samples[0].labels["engine"] == "0"
    shapes = {}
    for name, family in told.items():
        own = {label for sample in family.samples for label in sample.labels}
        assert own >= {"model_name", "engine"}, name
        shapes[name.removeprefix("vllm:")] = (
            family.type,
            "".join(own - {"model_name", "engine", "le"}),
        )
        assert {(s.labels["model_name"], s.labels["engine"]) for s in family.samples} == {
            ("demo", "0")
        }
    assert shapes == vllm_queries.PUBLISHED


def test_the_numbers_are_those_of_the_requests(ports: tuple[ServerProcess, str, str]) -> None:
    found = samples(ports[1])

    def number(name: str, **labels: str) -> float:
        return sum(each.value for each, _ in found[name] if labels.items() <= each.labels.items())

    assert number("vllm:prompt_tokens_total") == 80
    assert number("vllm:generation_tokens_total") == 24
    cached = number("vllm:prompt_tokens_cached_total")
    assert 0 < cached < 40  # the second request found the first one's blocks
    assert number("vllm:prompt_tokens_by_source_total", source="local_compute") == 80 - cached
    assert number("vllm:request_success_total", finished_reason="length") == 3
    assert number("vllm:request_generation_tokens_count") == 3
    assert number("vllm:request_generation_tokens_sum") == 24
    assert number("vllm:request_prompt_tokens_sum") == 120
    assert number("vllm:request_params_n_sum") == 5
    assert number("vllm:request_params_max_tokens_sum") == 24
    assert number("vllm:e2e_request_latency_seconds_count") == 2
    whole = number("vllm:request_inference_time_seconds_sum")
    parts = [number(f"vllm:request_{part}_time_seconds_sum") for part in ("prefill", "decode")]
    assert sum(parts) == pytest.approx(whole)
    each = number("vllm:request_time_per_output_token_seconds_sum")
    assert each == pytest.approx(parts[1] / 7)
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert number(f"vllm:{name}") == 0


def test_the_open_port_tells_no_names_of_keys(ports: tuple[ServerProcess, str, str]) -> None:
    assert "octavo_key_requests" in ports[1]
    hidden = families(ports[1]).keys() - families(ports[2]).keys()
    assert hidden == {"octavo_key_requests", "octavo_key_tokens"}


def test_without_the_flags_there_is_neither(server: ServerProcess, http: httpx.Client) -> None:
    assert not any(name.startswith("vllm:") for name in server.metrics())
    assert http.get("/metrics").status_code == 404
