"""The client against an HTTP server that answers as Prometheus does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from octavo_operator.autoscale.load import LoadError, ReplicaLoad, Snapshot
from octavo_operator.autoscale.prometheus import Prometheus
from octavo_operator.manifest import ObjectKey

NOW = 1_800_000_000.0


def series(value: float, name: str = "", **labels: str) -> dict[str, Any]:
    metric = {"namespace": "team", "pod": "llama-1", **labels}
    return {"metric": metric | ({"__name__": name} if name else {}), "value": [NOW, str(value)]}


def vector(*result: dict[str, Any]) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": list(result)}}


def of_team(found: Snapshot) -> dict[str, ReplicaLoad]:
    """The load of the namespace's pods by name."""
    return {pod.name: load for pod, load in found.pods.items() if pod.namespace == "team"}


def snapshot(
    answer: Callable[[str], web.StreamResponse | dict[str, Any]], **kwargs: Any
) -> Snapshot:
    """What the client makes of a server that answers each query by `answer`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.path == "/api/v1/query"
        assert float(request.query["time"]) == NOW
        found = answer(request.query["query"])
        return web.json_response(found) if isinstance(found, dict) else found

    async def scenario() -> Snapshot:
        app = web.Application()
        app.router.add_get("/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        client = Prometheus(url, **{"timeout_seconds": 5, "max_age_seconds": 60} | kwargs)
        try:
            return await client.snapshot(NOW, 7.0)
        finally:
            await client.close()
            await runner.cleanup()

    return asyncio.run(scenario())


def test_the_load_of_every_pod_is_read_in_two_queries() -> None:
    queries = []

    def answer(query: str) -> dict[str, Any]:
        queries.append(query)
        if query.startswith("timestamp("):
            return vector(series(NOW - 5), series(NOW - 5, namespace="other", pod="x"))
        return vector(
            series(3, "octavo_requests_waiting"),
            series(8, "octavo_requests_running"),
            series(0.5, "octavo_kv_cache_usage_ratio"),
            series(1, "octavo_requests_waiting", namespace="other", pod="x"),
        )

    found = snapshot(answer)
    assert len(queries) == 2
    assert found.taken_at == 7.0
    assert of_team(found) == {"llama-1": ReplicaLoad(3, 8, 0.5)}
    assert found.pods[ObjectKey("other", "x")] == ReplicaLoad(1, 0)


def test_a_sample_that_is_too_old_counts_as_missing() -> None:
    def answer(query: str) -> dict[str, Any]:
        if query.startswith("timestamp("):
            return vector(series(NOW - 61), series(NOW - 59, pod="fresh"))
        return vector(
            series(3, "octavo_requests_waiting"),
            series(4, "octavo_requests_waiting", pod="fresh"),
        )

    assert of_team(snapshot(answer)) == {"fresh": ReplicaLoad(4, 0)}


def test_the_models_of_one_pod_add_up() -> None:
    def answer(query: str) -> dict[str, Any]:
        if query.startswith("timestamp("):
            return vector(series(NOW, model="a"), series(NOW, model="b"))
        return vector(
            series(1, "octavo_requests_waiting", model="a"),
            series(2, "octavo_requests_waiting", model="b"),
        )

    assert of_team(snapshot(answer)) == {"llama-1": ReplicaLoad(3, 0)}


def test_two_jobs_that_scrape_one_pod_count_its_requests_once() -> None:
    def answer(query: str) -> dict[str, Any]:
        name = "" if query.startswith("timestamp(") else "octavo_requests_waiting"
        values = (NOW, NOW, NOW, NOW) if not name else (5, 6, 2, 2)
        sources = (("a", "pods"), ("a", "podmonitor"), ("b", "pods"), ("b", "podmonitor"))
        return vector(
            *(
                series(value, name, model=model, job=job)
                for value, (model, job) in zip(values, sources, strict=True)
            )
        )

    assert of_team(snapshot(answer)) == {"llama-1": ReplicaLoad(8, 0)}


def test_a_job_that_no_longer_scrapes_does_not_hide_one_that_does() -> None:
    def answer(query: str) -> dict[str, Any]:
        if query.startswith("timestamp("):
            return vector(series(NOW - 61, job="gone"), series(NOW, job="pods"))
        name = "octavo_requests_waiting"
        return vector(series(50, name, job="gone"), series(1, name, job="pods"))

    assert of_team(snapshot(answer)) == {"llama-1": ReplicaLoad(1, 0)}


@pytest.mark.parametrize("value", ["+Inf", "-Inf", "NaN"])
def test_a_value_that_is_no_finite_number_counts_as_missing(value: str) -> None:
    def answer(query: str) -> dict[str, Any]:
        if query.startswith("timestamp("):
            return vector(series(NOW), series(NOW, pod="b"))
        broken = {**series(0, "octavo_requests_waiting"), "value": [NOW, value]}
        running = {**series(0, "octavo_requests_running", pod="b"), "value": [NOW, value]}
        return vector(broken, series(4, "octavo_requests_waiting", pod="b"), running)

    assert of_team(snapshot(answer)) == {"b": ReplicaLoad(4, 0)}


def test_a_series_without_a_pod_is_left_out() -> None:
    def answer(query: str) -> dict[str, Any]:
        value = NOW if query.startswith("timestamp(") else 5
        return vector(
            {"metric": {"__name__": "octavo_requests_waiting"}, "value": [NOW, str(value)]}
        )

    assert snapshot(answer).pods == {}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda _: web.Response(status=503), "answered 503"),
        (lambda _: web.Response(text="<html>"), "127.0.0.1"),
        (lambda _: {"status": "error"}, "not an instant vector"),
        (lambda _: {"data": {"result": [{"metric": {}, "value": []}]}}, ""),
        (lambda _: vector({**series(1), "value": [NOW, "NaNa"]}), "not an instant vector"),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_never_a_number(answer: Any, message: str) -> None:
    if not message:
        assert snapshot(answer).pods == {}
        return
    with pytest.raises(LoadError, match=message):
        snapshot(answer)


def test_a_server_that_is_not_there_is_an_error() -> None:
    async def scenario() -> None:
        client = Prometheus("http://127.0.0.1:9", timeout_seconds=2, max_age_seconds=60)
        try:
            with pytest.raises(LoadError, match=r"127\.0\.0\.1:9"):
                await client.snapshot(NOW, 0.0)
        finally:
            await client.close()

    asyncio.run(scenario())


def test_a_server_that_hangs_is_given_up() -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(lambda _r, _w: asyncio.sleep(5), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = Prometheus(f"http://127.0.0.1:{port}", timeout_seconds=0.2, max_age_seconds=60)
        try:
            with pytest.raises(LoadError, match=r"within 0\.2 s"):
                await client.snapshot(NOW, 0.0)
        finally:
            await client.close()
            server.close()

    asyncio.run(scenario())
