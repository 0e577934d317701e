"""Sampling defaults of the model over HTTP: taken where a request says nothing, and no further."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.runtime.server_process import ServerProcess

# Hot enough that the demo model writes something else each time, were it not for top_k.
DEFAULTS = {"temperature": 100.0, "top_k": 1, "max_new_tokens": 5}
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("generation-config")
    (folder / "generation_config.json").write_text(json.dumps(DEFAULTS))
    with ServerProcess("--generation-config", str(folder)) as process:
        yield process.wait_ready().url


def usage(url: str, route: str, **fields: Any) -> tuple[str, int]:
    body = {"model": "demo", "ignore_eos": True, **fields}
    response = httpx.post(f"{url}/v1/{route}", json=body, timeout=60).raise_for_status()
    document = response.json()
    choice = document["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return text, document["usage"]["completion_tokens"]


def test_both_routes_take_the_defaults(url: str) -> None:
    greedy = {"temperature": 0.0}
    for route, prompt in (
        ("chat/completions", {"messages": HELLO}),
        ("completions", {"prompt": "What is"}),
    ):
        text, count = usage(url, route, **prompt)
        assert count == 5
        # top_k of 1 leaves the best token alone, however hot.
        assert text == usage(url, route, **prompt, **greedy)[0]
        assert usage(url, route, **prompt, top_k=None, max_tokens=None) == (text, 5)


def test_the_request_wins(url: str) -> None:
    text, count = usage(url, "completions", prompt="What is", max_tokens=9)
    assert count == 9
    hot, _ = usage(url, "completions", prompt="What is", max_tokens=9, top_k=0, seed=1)
    assert hot != text


def test_a_default_length_refuses_no_prompt(url: str) -> None:
    context = httpx.get(f"{url}/v1/models", timeout=60).json()["data"][0]["max_model_len"]
    assert usage(url, "completions", prompt=[5] * (context - 2))[1] == 2
