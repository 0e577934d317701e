"""What pydantic finds wrong with a request, told in the words of JSON and by the client's own fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from octavo.server.anthropic.request import CountTokensRequest, MessagesRequest
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.embeddings import EmbeddingRequest
from octavo.server.openai.protocol import ChatCompletionRequest, CompletionRequest, validated
from octavo.server.openai.responses_api.request import ResponsesRequest
from octavo.server.openai.scores import RerankRequest, ScoreRequest
from octavo.server.openai.tokenize import DetokenizeRequest

SCHEMA = {"type": "object"}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
SAMPLING: dict[str, Any] = {
    "temperature": 1.0,
    "top_k": 1,
    "stop": ["a"],
    "stop_token_ids": [1],
    "logit_bias": {"1": 1.0},
    "bad_words": ["a"],
    "structured_outputs": {"choice": ["a"]},
    "stream": True,
    "cache_salt": "a",
    "metadata": {"str": "b"},
    "prompt_cache_options": {"ttl": "30m"},
}
CHAT = {
    "model": "m",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}]},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "stream_options": {"include_usage": True},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
    "prediction": {"type": "content", "content": [{"type": "text", "text": "a"}]},
    "chat_template_kwargs": {"a": 1},
    **SAMPLING,
}
RESPONSE = {
    "model": "m",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
    ],
    "tools": [{"type": "function", **FUNCTION}],
    "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}},
    "reasoning": {"effort": "low"},
    "include": ["message.output_text.logprobs"],
    "stream_options": {"include_obfuscation": True},
    **SAMPLING,
}
MESSAGES = {
    "model": "m",
    "max_tokens": 1,
    "system": [{"type": "text", "text": "a"}],
    "messages": [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "a",
                    "content": [{"type": "text", "text": "a"}],
                }
            ],
        },
    ],
    "tools": [{"name": "f", "input_schema": SCHEMA, "cache_control": {}}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "disabled"},
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    "metadata": {"user_id": "a"},
    "stop_sequences": ["a"],
}
Parse = Callable[[Any], object]
REQUESTS: dict[str, tuple[Parse, dict[str, Any]]] = {
    "chat": (ChatCompletionRequest.parse, CHAT),
    "completion": (CompletionRequest.parse, {"model": "m", "prompt": "a", **SAMPLING}),
    "response": (ResponsesRequest.parse, RESPONSE),
    "messages": (MessagesRequest.parse, MESSAGES),
    "count": (
        CountTokensRequest.parse,
        {name: MESSAGES[name] for name in ("model", "messages", "system", "tools")},
    ),
    "embedding": (
        EmbeddingRequest.parse,
        {"model": "m", "input": "a", "dimensions": 1},
    ),
    "score": (
        ScoreRequest.parse,
        {"model": "m", "text_1": "a", "text_2": ["a"]},
    ),
    "rerank": (
        RerankRequest.parse,
        {"model": "m", "query": "a", "documents": ["a", {"text": "b"}], "top_n": 1},
    ),
    "detokenize": (
        lambda sent: validated(DetokenizeRequest, sent),
        {"model": "m", "tokens": [1]},
    ),
}
WRONG: tuple[Any, ...] = (
    None,
    True,
    5,
    0.5,
    "x",
    [],
    [5],
    [None],
    {},
    {"x": 5},
    {"type": 5},
    [{}],
    [[]],
)
# Words of Python and of pydantic, and names of our own classes and functions.
FOREIGN = re.compile(
    r"discriminator|instance|\btags?\b|dictionary|Input|pydantic|validator|\[str|_\w+\(|[a-z][A-Z]|\bNone or"
)


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Of every value in a document."""
    yield path
    if isinstance(value, dict):
        for name, one in value.items():
            yield from places(one, (*path, name))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from places(one, (*path, number))


def put(document: Any, path: tuple[str | int, ...], value: object) -> Any:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(document, list):
        return [put(one, rest, value) if n == first else one for n, one in enumerate(document)]
    return {key: put(one, rest, value) if key == first else one for key, one in document.items()}


def refusal(parse: Parse, document: object) -> ApiError | None:
    try:
        parse(document)
    except ApiError as error:
        return error
    return None


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_wrong_value_anywhere_is_told_in_the_words_of_json(kind: str) -> None:
    parse, good = REQUESTS[kind]
    assert refusal(parse, good) is None
    num_refused = 0
    for path in list(places(good))[1:]:
        for wrong in WRONG:
            error = refusal(parse, put(good, path, wrong))
            if error is None:
                continue
            num_refused += 1
            message = str(error)
            assert error.status == 400
            assert not FOREIGN.search(message), message
            assert re.split(r"[.[]", error.detail.param or "")[0] in good, message
    assert num_refused > len(good)


@pytest.mark.parametrize(
    ("kind", "path", "wrong", "message"),
    [
        ("response", ("input",), None, "input is null; it must be a valid string or a valid list."),
        ("response", ("input", 0), 5, "input[0] is 5; it must be an object."),
        ("messages", ("messages", 0), 5, "messages[0] is 5; it must be an object."),
        (
            "messages",
            ("messages", 0, "content"),
            [5],
            "messages[0].content[0] is 5; it must be an object.",
        ),
        (
            "chat",
            ("messages", 0, "content", 0),
            5,
            "messages[0].content[0] is 5; it must be an object.",
        ),
        ("chat", ("tool_choice",), 5, "tool_choice is 5; it must be a valid string or an object."),
        ("chat", ("metadata", "str"), 5, "metadata.str is 5; it must be a valid string."),
        ("chat", ("stop",), ["a", 5], "stop[1] is 5; it must be a valid string."),
        (
            "chat",
            ("tools", 0),
            {"type": "custom", "custom": {"name": "f"}},
            "tools[0].type is not supported by this server: it is 'custom'. Use function.",
        ),
        (
            "rerank",
            ("documents", 0),
            5,
            "documents[0] is 5; it must be a valid string or an object.",
        ),
        ("rerank", ("documents", 1), {}, "Missing required parameter: documents[1].text."),
        (
            "score",
            ("text_2",),
            ["a"] * 2049,
            "text_2 is a list of 2049 items; List should have at most 2048 items after validation, not 2049.",
        ),
        (
            "score",
            ("text_1",),
            [],
            "text_1 is []; List should have at least 1 item after validation, not 0.",
        ),
        ("score", ("text_2",), 5, "text_2 is 5; it must be a valid string or a valid list."),
    ],
)
def test_an_error_says_all_that_the_field_takes(
    kind: str, path: tuple[str | int, ...], wrong: object, message: str
) -> None:
    parse, good = REQUESTS[kind]
    with pytest.raises(ApiError) as caught:
        parse(put(good, path, wrong))
    assert str(caught.value) == message
