"""A tokenizer may know tokens that the model has no embedding for: whoever's prompt holds one is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import AddedToken, Tokenizer

from octavo import LLM, SamplingParams
from octavo.errors import InvalidParameterError
from octavo.model_source import resolve
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.server_process import ServerProcess

ADDED = ("[EXTRA]", "<|späte|>")
FIRST_ADDED_ID = 1280  # the demo model's vocab_size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extra")
    for file in resolve("builtin://demo").iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([ADDED[0]])
    tokenizer.add_special_tokens([AddedToken(ADDED[1], special=True)])
    assert tokenizer.token_to_id(ADDED[0]) == FIRST_ADDED_ID
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def http(folder: Path) -> Iterator[httpx.Client]:
    with (
        ServerProcess(model=str(folder)) as server,
        httpx.Client(base_url=server.wait_ready().url, timeout=60) as client,
    ):
        yield client


def user(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("added", ADDED)
@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/completions", lambda text: {"prompt": text}, "prompt"),
        ("/v1/completions", lambda text: {"prompt": ["fine", text]}, "prompt"),
        ("/v1/completions", lambda text: {"prompt": text, "stream": True}, "prompt"),
        ("/v1/completions", lambda text: {"prompt": text, "echo": True}, "prompt"),
        ("/v1/chat/completions", user, "messages"),
        ("/v1/chat/completions", lambda text: {**user(text), "stream": True}, "messages"),
        (
            "/v1/chat/completions",
            lambda text: {
                "messages": [
                    {"role": "system", "content": text},
                    {"role": "user", "content": "hello"},
                ]
            },
            "messages",
        ),
        (
            "/v1/chat/completions",
            lambda text: {
                **user("hello"),
                "tools": [{"type": "function", "function": {"name": "f", "description": text}}],
            },
            "messages",
        ),
        ("/tokenize", lambda text: {"prompt": text}, "prompt"),
        ("/tokenize", user, "messages"),
    ],
)
def test_a_text_that_becomes_such_an_id_is_refused_by_every_door(
    http: httpx.Client, path: str, fields: Any, param: str, added: str
) -> None:
    body = {"model": "demo", **fields(f"a {added} b")}
    response = http.post(path, json=body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert added in error["message"]
    assert "[0, 1279]" in error["message"]
    fine = http.post(path, json={"model": "demo", **fields("a b")})
    assert fine.status_code == 200, fine.text


@pytest.mark.parametrize("token_id", [FIRST_ADDED_ID, FIRST_ADDED_ID + 1, 10**6, -1])
def test_ids_are_refused_as_texts_are(http: httpx.Client, token_id: int) -> None:
    for path, fields in (
        ("/v1/completions", {"prompt": [1, token_id]}),
        ("/v1/completions", {"prompt": [[1], [token_id]]}),
        ("/detokenize", {"tokens": [token_id]}),
        ("/v1/completions", {"prompt": "a", "stop_token_ids": [token_id]}),
        ("/v1/chat/completions", {**user("a"), "stop_token_ids": [token_id], "min_tokens": 2}),
    ):
        response = http.post(path, json={"model": "demo", **fields})
        assert response.status_code == 400, response.text
        assert str(token_id) in response.json()["error"]["message"]


def test_the_librarys_doors_refuse_them_before_anything_runs(folder: Path) -> None:
    with LLM(str(folder), kv_cache_memory_bytes=2**24) as llm:
        text = f"a {ADDED[0]} b"
        for refused in (
            lambda: llm.generate(["fine", text]),
            lambda: llm.generate([[1], [1, FIRST_ADDED_ID]]),
            lambda: llm.chat([{"role": "user", "content": text}]),
            lambda: llm.embed(["fine", text]),
            lambda: llm.beam_search(text),
        ):
            with pytest.raises(InvalidParameterError, match=r"1280.*\[0, 1279\]"):
                refused()
        assert llm.stats.step == 0


def test_an_end_that_the_model_cannot_draw_is_none(folder: Path, tmp_path: Path) -> None:
    """A checkpoint's end may be a token that was added and has no row: what keeps an answer from its end, and
    a grammar, which says where one may be, go by the others."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "generation_config.json"
    given = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**given, "eos_token_id": [FIRST_ADDED_ID + 1, 10**6]}))
    asked = [
        SamplingParams(temperature=0.0, max_tokens=8, min_tokens=8),
        SamplingParams(max_tokens=8, structured_outputs=StructuredOutputsParams(choice=["yes"])),
    ]
    texts = []
    for one in (folder, tmp_path):
        with LLM(str(one), kv_cache_memory_bytes=2**24) as llm:
            outputs = llm.generate(["What is Octavo?"] * 2, asked)
            texts.append([output.outputs[0].text for output in outputs])
    assert texts[0] == texts[1]
    assert texts[0][1] == "yes"
