"""Responses as tests ask for them: a tool, a format, and the request. Their schemas are messages', too."""

from __future__ import annotations

from typing import Any

import httpx

SUMMANDS: dict[str, Any] = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
    "required": ["x", "y"],
    "additionalProperties": False,
}
ADD: dict[str, Any] = {
    "type": "function",
    "name": "add_numbers",
    "description": "Add two numbers.",
    "strict": True,
    "parameters": SUMMANDS,
}
COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "name": "colour", "schema": COLOUR, "strict": True}


def post(http: httpx.Client, **fields: Any) -> httpx.Response:
    body = {"model": "demo", "temperature": 0, "max_output_tokens": 100, **fields}
    return http.post("/v1/responses", json=body)
