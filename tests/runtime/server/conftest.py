from __future__ import annotations

from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.support.runtime.described_answers import check_described
from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import ServerProcess


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """One real server with the demo model, shared by the tests that leave it as they found it."""
    with ServerProcess() as process:
        yield process.wait_ready()


@pytest.fixture(scope="session")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    """The same, for requests that must not end while a test looks: see `Faults.slow_steps`."""
    with FaultyServer(tmp_path_factory.mktemp("faults")) as process:
        process.wait_ready()
        yield process


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    hooks = {"response": [check_described]}
    with httpx.Client(base_url=server.url, timeout=60, event_hooks=hooks) as client:
        yield client


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with (
        openai.DefaultHttpxClient(event_hooks={"response": [check_described]}) as http,
        openai.OpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http
        ) as client,
    ):
        yield client
