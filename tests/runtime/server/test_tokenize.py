"""Token ids before a prompt is sent, and back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from octavo.model_source import resolve
from octavo.tokenizer import load_tokenizer


def post(http: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    return http.post(path, json={"model": "demo", **fields})


def test_a_text_becomes_its_tokens_and_the_text_again(http: httpx.Client) -> None:
    answer = post(http, "/tokenize", prompt="What is Octavo?").raise_for_status().json()
    assert answer["max_model_len"] == 2048
    assert answer["count"] == len(answer["tokens"]) > 3
    used = post(http, "/v1/completions", prompt="What is Octavo?", max_tokens=1).json()["usage"]
    assert used["prompt_tokens"] == answer["count"]
    assert post(http, "/detokenize", tokens=answer["tokens"]).json() == {
        "prompt": "What is Octavo?"
    }
    assert "token_strs" not in answer
    told = post(http, "/tokenize", prompt="What is Octavo?", return_token_strs=True).json()
    vocabulary = load_tokenizer(resolve("builtin://demo")).backend
    assert told["token_strs"] == [vocabulary.id_to_token(one) for one in answer["tokens"]]


def test_a_chat_is_counted_as_it_is_answered(http: httpx.Client) -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "Does something."}}
    body = {
        "messages": [{"role": "user", "content": "What is Octavo?"}],
        "tools": [tool],
        "max_tokens": 1,
        "stream": False,
    }
    answer = post(http, "/tokenize", **body).raise_for_status().json()
    used = post(http, "/v1/chat/completions", **body).json()["usage"]
    assert answer["count"] == used["prompt_tokens"]
    text = post(http, "/detokenize", tokens=answer["tokens"]).json()["prompt"]
    assert "<|user|>What is Octavo?<|end|>" in text  # special tokens are shown
    assert "Does something." in text


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": ["a", "b"]}, "prompt"),
        ("/tokenize", {"messages": "hello"}, "messages"),
        ("/tokenize", {"messages": [], "prompt": "hello"}, "prompt"),
        ("/tokenize", {"prompt": "a", "promt": "b"}, "promt"),
        ("/tokenize", {"prompt": "a", "return_token_strs": 1}, "return_token_strs"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [1.5]}, "tokens"),
        ("/detokenize", {"tokens": [True]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [10**30]}, "tokens"),
        ("/detokenize", {"tokens": [1], "model": "gpt-x"}, "model"),
    ],
)
def test_a_wrong_field_is_named(
    http: httpx.Client, path: str, fields: dict[str, Any], param: str
) -> None:
    response = post(http, path, **fields)
    assert response.status_code == (404 if param == "model" else 400)
    assert response.json()["error"]["param"] == param
