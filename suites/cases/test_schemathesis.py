"""schemathesis against the server's own document: no 5xx, errors in OpenAI's form, answers as described."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from suites.cases.drawn import shorten
from suites.cases.server import encoder_url, url

EXAMPLES = 40
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
demo = schemathesis.openapi.from_url(f"{url().removesuffix('/v1')}/openapi.json")
encoder = schemathesis.openapi.from_url(f"{encoder_url().removesuffix('/v1')}/openapi.json")


def check(case: Any) -> None:
    shorten(case.body)
    answer = case.call(timeout=120)
    case.validate_response(answer, checks=CHECKS)
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert isinstance(error["message"], str)
        assert error["message"]
        assert isinstance(error["type"], str)


@demo.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_demo_model(case: Any) -> None:
    check(case)


@encoder.include(path_regex="embeddings|score|rerank|pooling|tokenize").parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_encoder(case: Any) -> None:
    check(case)


@pytest.mark.parametrize("path", ["/v1/nobody", "/v1/chat"])
def test_unknown_paths(path: str) -> None:
    answer = httpx.get(url().removesuffix("/v1") + path)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"]
