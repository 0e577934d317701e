"""Hints of refusals: a route that a message names answers on this very server, whatever kind of model it
serves, and a flag that it names is one of `octavo serve`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from octavo.cli.main import run
from octavo.engine.messages import EngineInfo
from octavo.model_source import resolve
from octavo.server.process.banner import something_to_try
from tests.support.runtime.encoders import BASE, SCORE, make_encoder, write_modules
from tests.support.runtime.server_process import ServerProcess

SAID = [{"role": "user", "content": "a man"}]
TOOL = {"name": "f", "parameters": {"type": "object"}}
FUNCTION = {"type": "function", "function": TOOL}
# A request that any model of the right kind answers, for each route that a message may name.
PLAIN: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": SAID, "max_tokens": 1},
    "/v1/completions": {"prompt": "a man", "max_tokens": 1},
    "/v1/responses": {"input": "a man", "max_output_tokens": 1},
    "/v1/responses/input_tokens": {"input": "a man"},
    "/v1/messages": {"messages": SAID, "max_tokens": 1},
    "/v1/messages/count_tokens": {"messages": SAID},
    "/v1/embeddings": {"input": "a man"},
    "/v1/score": {"text_1": "a man", "text_2": "a baby"},
    "/v1/rerank": {"query": "a man", "documents": ["a baby"]},
    "/tokenize": {"prompt": "a man"},
    "/detokenize": {"tokens": [5]},
}
ASKED = [
    *PLAIN.items(),
    ("/score", PLAIN["/v1/score"]),
    ("/rerank", PLAIN["/v1/rerank"]),
    ("/v2/rerank", PLAIN["/v1/rerank"]),
    ("/tokenize", {"messages": SAID}),
    ("/tokenize", {"messages": SAID, "tools": [FUNCTION]}),
    ("/v1/embeddings", {"messages": SAID}),
    ("/v1/chat/completions", {"messages": SAID, "max_tokens": 1, "tools": [FUNCTION]}),
    ("/v1/responses", {"input": "a man", "tools": [{"type": "function", **TOOL}]}),
    *((path.removeprefix("/v1"), body) for path, body in PLAIN.items() if "/v1" in path),
    *((f"/v1{path}", body) for path, body in PLAIN.items() if "/v1" in path),
    *((path, {}) for path in ("/models", "/v1/responses/resp_1", "/metrics", "/livez", "/sleep")),
]
ROUTE = re.compile(r"(?<![\w./])/(?:v\d/)?[a-z_]+(?:/[a-z_]+)*(?![\w/])")
FLAG = re.compile(r"--[a-z][a-z-]+")
PLAIN_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def _encoder(folder: Path, head: int) -> str:
    make_encoder(folder, "bert", head)
    if head == BASE:
        write_modules(folder, {"pooling_mode_mean_tokens": True})
    return str(folder)


def _bare_demo(folder: Path, template: str | None) -> str:
    copied = folder / "demo"
    shutil.copytree(resolve("builtin://demo"), copied)
    (copied / "chat_template.jinja").unlink()
    if template is not None:
        (copied / "chat_template.jinja").write_text(template)
    return str(copied)


KINDS: dict[str, Callable[[Path], str]] = {
    "generates": lambda folder: "builtin://demo",
    "no template": lambda folder: _bare_demo(folder, None),
    "no tools": lambda folder: _bare_demo(folder, PLAIN_TEMPLATE),
    "embeds": lambda folder: _encoder(folder, BASE),
    "scores": lambda folder: _encoder(folder, SCORE),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def served(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    model = KINDS[kind](tmp_path_factory.mktemp("kind"))
    with ServerProcess("--device", "cpu", model=model) as server:
        yield server.wait_ready()


def ask(server: ServerProcess, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json={"model": "demo", **body}, timeout=60)


@pytest.fixture(scope="module")
def refusals(served: ServerProcess) -> dict[str, str]:
    """Messages by what was asked."""
    found = {}
    for path, body in ASKED:
        answer = ask(served, path, body)
        if answer.status_code != 200:
            assert answer.status_code in (400, 404), answer.text
            found[f"{path} {sorted(body)}"] = answer.json()["error"]["message"]
    return found


def test_a_route_that_a_refusal_names_answers(
    served: ServerProcess, refusals: dict[str, str], kind: str
) -> None:
    named = set()
    for asked, message in refusals.items():
        said = message.removeprefix(f"Unknown request URL: POST {asked.split()[0]}.")
        for route in ROUTE.findall(said):
            if route == "/v1/models":  # has no body
                continue
            named.add(route)
            assert ask(served, route, PLAIN[route]).status_code == 200, f"{asked}: {message}"
    assert named, kind


def test_a_refusal_of_a_kind_of_model_says_what_works(refusals: dict[str, str], kind: str) -> None:
    """What a message tells to send in place of what was refused is taken, too."""
    expected = {
        "generates": {},
        "no template": {
            "/tokenize ['messages']": "give prompt in place of messages",
            "/v1/embeddings ['messages']": "give input in place of messages",
            "/v1/chat/completions ['max_tokens', 'messages']": "use /v1/completions",
            "/v1/messages/count_tokens ['messages']": "give /tokenize a prompt",
            "/v1/chat/completions ['max_tokens', 'messages', 'tools']": "--chat-template",
        },
        "no tools": {
            "/v1/chat/completions ['max_tokens', 'messages', 'tools']": "Leave them out",
        },
        "embeds": {
            "/v1/messages/count_tokens ['messages']": "Use /v1/embeddings",
            "/v1/responses/input_tokens ['input']": "Use /v1/embeddings",
            "/v1/embeddings ['messages']": "give input in place of messages",
            "/tokenize ['messages']": "give prompt in place of messages",
        },
        "scores": {
            "/v1/messages/count_tokens ['messages']": "Use /v1/score or /v1/rerank",
            "/v1/embeddings ['input']": "Use /v1/score or /v1/rerank",
            "/tokenize ['messages']": "give prompt in place of messages",
        },
    }[kind]
    for asked, advice in expected.items():
        assert advice in refusals[asked], asked
    if kind == "no tools":
        # A way to read calls would not help: the template leaves the tools out.
        assert not any("--tool-call-parser" in message for message in refusals.values())


def test_flags_that_refusals_name_are_there(
    refusals: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--help"]) == 0
    known = set(FLAG.findall(capsys.readouterr().out))
    for message in refusals.values():
        assert set(FLAG.findall(message)) <= known, message


def test_what_a_terminal_is_told_to_try_answers(served: ServerProcess, kind: str) -> None:
    info = EngineInfo(
        max_model_len=1,
        num_kv_blocks=1,
        block_size=1,
        vocab_size=1,
        dtype="",
        device="",
        phases={},
        can_generate=kind not in ("embeds", "scores"),
        gives_scores=kind == "scores",
    )
    route, body = something_to_try(info, has_chat=kind != "no template")
    assert ask(served, f"/v1/{route}", body).status_code == 200
