"""Described answers: whatever a test's server answers on a route of `/openapi.json` is declared there.

Hung onto the clients that tests share, it holds the document to what their requests happen to provoke.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx

from octavo.server.openai.description import openapi_document

OPTIONAL = ("/", "/metrics", "/tokenizer_info")


@cache
def _operations() -> dict[tuple[str, str], dict[str, Any]]:
    paths = openapi_document(optional=OPTIONAL)["paths"]
    return {
        (method.upper(), path): operation
        for path, item in paths.items()
        for method, operation in item.items()
    }


def check_described(response: httpx.Response) -> None:
    """A hook of httpx. Other methods and paths are not described, nor those that this server leaves out."""
    path = response.request.url.path.rstrip("/") or "/"
    if path.startswith("/v1/models/"):
        path = "/v1/models/{name}"
    operation = _operations().get((response.request.method, path))
    if operation is None or (path in OPTIONAL and response.status_code == 404):
        return
    answer = operation["responses"].get(str(response.status_code))
    assert answer is not None, f"{path} answers {response.status_code}, which is not declared"
    kind = response.headers.get("content-type", "").partition(";")[0]
    assert kind in answer.get("content", {"": None}), f"{path} answers with {kind}"
    for name in ("retry-after", "www-authenticate"):
        is_declared = name in map(str.lower, answer.get("headers", {}))
        assert is_declared or name not in response.headers, f"{path} sends {name}"
