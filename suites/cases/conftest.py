"""Server for cases that are run without `python -m suites`, as `make test` runs those of `openai`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def server() -> Iterator[None]:
    """The demo model, where no server is named."""
    if "OCTAVO_SUITES_URL" in os.environ:
        yield
        return
    from tests.support.runtime.server_process import ServerProcess

    with ServerProcess() as demo:
        os.environ["OCTAVO_SUITES_URL"] = f"{demo.wait_ready().url}/v1"
        yield
        del os.environ["OCTAVO_SUITES_URL"]
