"""`/openapi.json` is valid, and says of every route what it does."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from octavo.server.openai.description import openapi_document
from tests.support.runtime.described_answers import OPTIONAL

DOCUMENT = json.loads(json.dumps(openapi_document(optional=OPTIONAL)))
OPERATIONS = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    if isinstance(value, list):
        return [found for item in value for found in references(item)]
    return []


def test_it_is_a_valid_document() -> None:
    validate(DOCUMENT)
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    components = DOCUMENT["components"]
    kept = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "headers")
        for name in components[kind]
    }
    assert kept == set(references(DOCUMENT))
    for schema in components["schemas"].values():
        OAS31Validator.check_schema(schema)


def test_it_tells_of_the_key_and_of_errors_that_are_sent() -> None:
    for path, _, operation in OPERATIONS:
        statuses = set(operation["responses"])
        assert "422" not in statuses
        is_open = path in ("/health", "/version", "/metrics")
        assert ({"400", "401", "403", "503"} <= statuses) is not is_open
        assert (operation["security"] == []) is is_open
        assert (statuses == {"200", "400"}) is is_open
        assert ("requestBody" in operation) is ({"404", "413", "415", "429"} <= statuses)
        told = {
            status: list(answer["headers"])
            for status, answer in operation["responses"].items()
            if "headers" in answer
        }
        wanted = {"401": ["WWW-Authenticate"], "429": ["Retry-After"], "503": ["Retry-After"]}
        assert told == {status: wanted[status] for status in statuses & wanted.keys()}


def schema_of(path: str, method: str, status: int) -> dict[str, Any]:
    answer = DOCUMENT["paths"][path][method]["responses"][str(status)]
    schema = answer["content"]["application/json"]["schema"]
    return {**schema, "components": DOCUMENT["components"]}


CHAT = {"model": "demo", "messages": [{"role": "user", "content": "What is Octavo?"}]}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", {**CHAT, "max_tokens": 2}, 200),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 2, "logprobs": True}, 200),
        ("/v1/chat/completions", {**CHAT, "temperature": 3}, 400),
        ("/v1/chat/completions", {**CHAT, "model": "other"}, 404),
        ("/v1/completions", {"model": "demo", "prompt": "a", "max_tokens": 2, "logprobs": 0}, 200),
        ("/v1/completions", {"model": "demo", "prompt": 5}, 400),
        ("/v1/responses", {"model": "demo", "input": "a", "max_output_tokens": 2}, 200),
        ("/v1/responses", {"model": "demo", "input": 5}, 400),
        ("/v1/models", None, 200),
        ("/v1/models/{name}", None, 200),
        ("/tokenize", CHAT, 200),
        ("/detokenize", {"model": "demo", "tokens": [1, 2]}, 200),
        ("/version", None, 200),
    ],
)
def test_answers_are_what_it_says(
    http: httpx.Client, path: str, body: dict[str, Any] | None, status: int
) -> None:
    url = path.replace("{name}", "demo")
    response = http.get(url) if body is None else http.post(url, json=body)
    assert response.status_code == status
    method = "get" if body is None else "post"
    OAS31Validator(schema_of(path, method, status)).validate(response.json())


def test_the_server_serves_it_and_describes_all_that_it_answers(http: httpx.Client) -> None:
    served = http.get("/openapi.json").json()
    assert served == json.loads(json.dumps(openapi_document(optional=["/"])))
    operations = ((path, method) for path, item in served["paths"].items() for method in item)
    for path, method in operations:
        other = "post" if method == "get" else "get"
        url = path.replace("{name}", "demo")
        assert http.request(method, url).status_code != 404
        assert http.request(other, url).status_code == 405
