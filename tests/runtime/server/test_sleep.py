"""A served model that sleeps: who is told what, what runs meanwhile, and what the ops port takes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from octavo.errors import ModelAsleepError, OctavoError
from octavo.server.openai.api_errors import ApiError
from octavo.server.process.lifecycle import Lifecycle, State
from octavo.server.process.sleep_routes import SleepRoutes
from octavo.server.process.sleeping import (
    NotNowError,
    SleepCalledOffError,
    SleepMode,
    SleepSwitch,
)
from octavo.sleep_level import SleepLevel
from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import ServerProcess, eventually

PROMPT: dict[str, Any] = {"model": "demo", "prompt": "What is Octavo?", "temperature": 0}


class Engine:
    """Of the two calls each waits to be let through."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.log: list[object] = []
        self.lifecycle = lifecycle
        self.num_active = 1

    async def count_active(self) -> int:
        return self.num_active

    async def settled(self) -> None:
        self.log.append(("settled", self.lifecycle.state))

    async def sleep(self, level: SleepLevel) -> None:
        self.log.append((int(level), self.lifecycle.state))
        await asyncio.sleep(0)

    async def wake_up(self) -> None:
        self.log.append(("wake", self.lifecycle.state))
        await asyncio.sleep(0)

    def state(self) -> State:
        return self.lifecycle.state

    def end_streams(self, error: OctavoError) -> None:
        assert isinstance(error, ModelAsleepError)
        self.log.append("ended")


def switched(drain_seconds: float = 60.0) -> tuple[SleepSwitch, Engine]:
    lifecycle = Lifecycle(lambda: 0.0)
    lifecycle.state = State.READY
    switch, engine = SleepSwitch(lifecycle, drain_seconds), Engine(lifecycle)
    switch.attach(engine, engine)
    return switch, engine


def test_running_requests_end_or_are_waited_for_while_none_is_taken() -> None:
    async def run() -> None:
        switch, engine = switched()
        await switch.sleep(SleepLevel.KEEP_WEIGHTS, SleepMode.ABORT)
        assert engine.log == ["ended", (1, State.FALLING_ASLEEP)]
        assert engine.state() is State.SLEEPING
        await asyncio.gather(switch.wake_up(), switch.wake_up())
        settled = [("settled", State.READY)]
        assert engine.log[2:] == [("wake", State.SLEEPING), *settled, *settled]
        assert engine.state() is State.READY
        engine.log.clear()
        sleeping = asyncio.create_task(switch.sleep(SleepLevel.DROP_WEIGHTS, SleepMode.WAIT))
        await asyncio.sleep(0.1)
        assert engine.log == []
        assert engine.state() is State.FALLING_ASLEEP
        engine.num_active = 0
        await sleeping
        assert engine.log == ["ended", (2, State.FALLING_ASLEEP)]

    asyncio.run(run())


def test_requests_that_take_longer_than_a_drain_end_with_an_error() -> None:
    async def run() -> None:
        switch, engine = switched(drain_seconds=0.0)
        await switch.sleep(SleepLevel.DROP_WEIGHTS, SleepMode.WAIT)
        assert engine.log == ["ended", (2, State.FALLING_ASLEEP)]

    asyncio.run(run())


@pytest.mark.parametrize("end", ["abort", "wake_up", "draining"])
def test_a_sleep_that_waits_for_requests_holds_nobody_up(end: str) -> None:
    """Also when several wait."""

    async def run() -> None:
        switch, engine = switched()
        sleeps = [asyncio.create_task(switch.sleep(level, SleepMode.WAIT)) for level in SleepLevel]
        await asyncio.sleep(0.05)
        assert engine.log == []
        assert engine.state() is State.FALLING_ASLEEP
        if end == "abort":
            await switch.sleep(SleepLevel.KEEP_WEIGHTS, SleepMode.ABORT)
            await asyncio.gather(*sleeps)
            assert (switch.level, engine.state()) == (SleepLevel.DROP_WEIGHTS, State.SLEEPING)
            return
        if end == "wake_up":
            await switch.wake_up()
        else:
            engine.lifecycle.state = State.DRAINING
        error = SleepCalledOffError if end == "wake_up" else NotNowError
        assert [type(one) for one in await asyncio.gather(*sleeps, return_exceptions=True)] == (
            [error] * len(sleeps)
        )
        assert engine.state() is (State.READY if end == "wake_up" else State.DRAINING)
        assert engine.log == ([("settled", State.READY)] if end == "wake_up" else [])

    asyncio.run(run())


@pytest.mark.parametrize("state", [State.STARTING, State.DRAINING, State.FAILED])
def test_a_server_that_starts_or_ends_is_left_alone(state: State) -> None:
    async def run() -> None:
        switch, engine = switched()
        engine.lifecycle.state = state
        routes = SleepRoutes(switch)
        for ask in (routes.sleep, routes.wake_up):
            with pytest.raises(ApiError, match=state.value) as refused:
                await ask({"headers": [], "query_string": b""})
            assert refused.value.status == 503
        assert engine.log == []

    asyncio.run(run())


@pytest.fixture(scope="module")
def sleeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    flags = ("--enable-sleep-mode", "--metrics-names", "vllm")
    with FaultyServer(tmp_path_factory.mktemp("faults"), *flags) as process:
        process.wait_ready()
        yield process


def ask(server: ServerProcess, route: str, **options: Any) -> tuple[int, Any]:
    method = "GET" if route == "is_sleeping" else "POST"
    response = httpx.request(method, f"{server.ops_url}/{route}", timeout=60, **options)
    return response.status_code, response.json()


def vllm_sleep_states(server: ServerProcess) -> set[str]:
    """Those that hold."""
    text = httpx.get(f"{server.ops_url}/metrics", timeout=60).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    held = families["vllm:engine_sleep_state"].samples
    assert len(held) == 3
    return {sample.labels["sleep_state"] for sample in held if sample.value == 1}


def complete(server: ServerProcess, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=PROMPT | fields, timeout=60)


@pytest.mark.parametrize("level", [1, 2])
def test_requests_are_refused_while_it_sleeps_and_answered_as_before_when_it_wakes(
    sleeper: ServerProcess, level: int
) -> None:
    expected = complete(sleeper, max_tokens=24).json()["choices"]
    hits = sleeper.metrics()["octavo_prefix_cache_hit_tokens_total"]
    assert ask(sleeper, f"sleep?level={level}") == (200, {"is_sleeping": True, "level": level})
    assert ask(sleeper, "is_sleeping") == (200, {"is_sleeping": True, "level": level})
    refused = complete(sleeper)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "server_sleeping"
    assert "retry-after" not in refused.headers
    assert sleeper.probe("readyz").json() == {"status": "sleeping"}
    assert sleeper.probe("livez").status_code == 200
    assert sleeper.metrics()["octavo_sleep_level"] == level
    assert vllm_sleep_states(sleeper) == {["awake", "weights_offloaded", "discard_all"][level]}
    assert ask(sleeper, "wake_up") == (200, {"is_sleeping": False, "level": 0})
    assert complete(sleeper, max_tokens=24).json()["choices"] == expected
    assert sleeper.probe("readyz").status_code == 200
    assert sleeper.metrics()["octavo_sleep_level"] == 0
    assert vllm_sleep_states(sleeper) == {"awake"}
    assert sleeper.metrics()["octavo_prefix_cache_hit_tokens_total"] == hits


def test_a_stream_that_runs_is_waited_for_or_ends_with_an_error_event(
    sleeper: FaultyServer,
) -> None:
    with (
        sleeper.faults.slow_steps(),  # else the stream may be over before anybody looked
        openai.OpenAI(base_url=f"{sleeper.url}/v1", api_key="none", max_retries=0) as client,
        ThreadPoolExecutor() as pool,
    ):
        stream = client.completions.create(
            model="demo",
            prompt=[1, 2, 3],
            max_tokens=1900,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        waiting = pool.submit(ask, sleeper, "sleep?mode=wait")
        eventually(lambda: sleeper.probe("readyz").json() == {"status": "falling_asleep"})
        assert ask(sleeper, "is_sleeping") == (200, {"is_sleeping": False, "level": 0})
        refused = complete(sleeper)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "server_falling_asleep"
        assert ask(sleeper, "wake_up") == (200, {"is_sleeping": False, "level": 0})
        status, document = waiting.result()
        assert status == 409
        assert document["error"]["code"] == "sleep_called_off"
        assert complete(sleeper, max_tokens=4).status_code == 200
        next(iter(stream))  # which runs on
        assert ask(sleeper, "sleep")[0] == 200
        with pytest.raises(openai.APIError, match="The model sleeps"):
            list(stream)
    assert sleeper.metrics()["octavo_requests_running"] == 0
    assert ask(sleeper, "wake_up")[0] == 200
    assert complete(sleeper, max_tokens=4).status_code == 200


@pytest.mark.parametrize(
    ("route", "options", "why"),
    [
        ("sleep?level=3", {}, "level is '3'"),
        ("sleep?mode=keep", {}, "use abort or wait"),
        ("sleep?tags=weights", {}, "'tags' is no parameter; use level and mode."),
        ("sleep?level=1&level=2", {}, "level is given twice, as '1' and '2'. Send it once."),
        ("sleep?mode=wait&level=1&mode=wait", {}, "mode is given twice, as 'wait' and 'wait'."),
        ("wake_up?tags=weights", {}, "'tags' is no parameter; there is none."),
    ],
)
def test_what_is_not_understood_is_refused(
    sleeper: ServerProcess, route: str, options: dict[str, Any], why: str
) -> None:
    status, document = ask(sleeper, route, **options)
    assert status == 400
    assert why in document["error"]["message"]
    assert document["error"]["param"] == route.partition("?")[2].partition("=")[0]
    assert ask(sleeper, "is_sleeping")[1] == {"is_sleeping": False, "level": 0}
    assert httpx.get(f"{sleeper.ops_url}/sleep").status_code == 405


def test_a_server_without_the_flag_never_sleeps(server: ServerProcess) -> None:
    for route in ("sleep", "wake_up", "is_sleeping"):
        status, document = ask(server, route)
        assert status == 404
        assert "--enable-sleep-mode" in document["error"]["message"]
        assert document["error"]["code"] == "sleep_not_enabled"
