"""Reasoning on a live server. The demo model does not think: its `17 plus 25 is 42.` is told to begin with
thoughts, by a response template whose tags are words of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from octavo.model_source import resolve
from tests.support.runtime.server_process import ServerProcess

QUESTION: Any = [{"role": "user", "content": "What is 17 plus 25?"}]
FIELDS = {"thinking": {"open": "17 plus", "close": " is"}, "content": {"content": "text"}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("thinker") / "model"
    shutil.copytree(Path(resolve("builtin://demo")), folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "response_template": {"fields": FIELDS}}))
    with ServerProcess(model=str(folder)) as server:
        told = server.wait_for("how answers are read")
        assert (told["tool_call_parser"], told["reasoning_parser"]) == (
            "hermes",
            "response_template",
        )
        server.wait_ready()
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
            yield client


def ask(client: openai.OpenAI, **options: Any) -> Any:
    fields = {"temperature": 0, "max_tokens": 40, **options}
    return client.chat.completions.create(model="demo", messages=QUESTION, **fields)


def streamed(client: openai.OpenAI, index: int = 0, **options: Any) -> tuple[str, str, str]:
    """Reasoning by both names, and content, of one choice."""
    found = ["", "", ""]
    for chunk in ask(client, stream=True, **options):
        for choice in chunk.choices:
            if choice.index == index:
                extra = choice.delta.model_extra or {}
                found[0] += extra.get("reasoning", "")
                found[1] += extra.get("reasoning_content", "")
                found[2] += choice.delta.content or ""
    return found[0], found[1], found[2]


def parts(choice: Any) -> tuple[str, str, str]:
    extra = choice.message.model_extra
    return (
        extra.get("reasoning", ""),
        extra.get("reasoning_content", ""),
        choice.message.content or "",
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("25", "25", "42.")),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, ("25", "25", "42.")),
        ({"max_tokens": 5}, None),
        ({"stop": " is"}, ("25", "25", "")),
        ({"stop": "2."}, ("25", "25", "4")),
        ({"extra_body": {"structured_outputs": {"choice": ["no", "never"]}}}, None),
    ],
    ids=["plain", "tools", "cut", "stop in thoughts", "stop", "choice"],
)
def test_a_stream_is_the_whole_answer(
    client: openai.OpenAI, options: dict[str, Any], expected: tuple[str, str, str] | None
) -> None:
    answer = ask(client, **options)
    (choice,) = answer.choices
    found = parts(choice)
    assert streamed(client, **options) == found
    assert expected is None or found == expected
    if "max_tokens" in options:
        assert choice.message.content is None
        assert answer.usage.completion_tokens_details.reasoning_tokens == 5
    if "extra_body" in options:
        assert found[0] == "25"
        assert found[2] in ("no", "never")


def test_its_tokens_are_counted_and_keep_their_log_probabilities(client: openai.OpenAI) -> None:
    answer = ask(client, n=2, logprobs=True)
    for choice in answer.choices:
        assert parts(choice) == ("25", "25", "42.")
        text = "".join(token.token for token in choice.logprobs.content)
        assert text.startswith("17 plus 25 is 42.")
    tokens = [token.token for token in answer.choices[0].logprobs.content]
    thought = next(n for n in range(len(tokens)) if "".join(tokens[:n]).endswith(" is"))
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2 * thought
    assert streamed(client, index=1, n=2) == ("25", "25", "42.")


def test_a_response_holds_it_as_an_item(client: openai.OpenAI) -> None:
    made = client.responses.create(
        model="demo", input=QUESTION, temperature=0, include=["message.output_text.logprobs"]
    )
    thoughts, message = made.output
    assert isinstance(thoughts, openai.types.responses.ResponseReasoningItem)
    assert [part.text for part in thoughts.content or []] == ["25"]
    assert made.output_text == "42."
    assert message.type == "message"
    assert made.usage is not None
    assert made.usage.output_tokens_details.reasoning_tokens > 0
    (part,) = message.content
    assert part.type == "output_text"
    shown = [one.token for one in part.logprobs or [] if not one.token.startswith("<|")]
    assert "".join(shown) == "42."
