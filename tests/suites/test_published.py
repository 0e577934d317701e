"""Reduction of a published document to the routes that are served."""

from __future__ import annotations

from typing import Any

import pytest

from suites.cases.published import reduced

TEXT: dict[str, Any] = {"type": "string"}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "t"},
    "paths": {
        "/a": {"post": {"requestBody": {"$ref": "#/components/requestBodies/A"}}, "get": {}},
        "/b": {"get": {"answer": {"$ref": "#/components/schemas/Other"}}},
    },
    "components": {
        "requestBodies": {"A": {"content": {"$ref": "#/components/schemas/Node"}}},
        "schemas": {
            "Node": {
                "properties": {
                    "next": {"$ref": "#/components/schemas/Node"},
                    "name": {**TEXT, "nullable": True},
                    "nullable": TEXT,
                }
            },
            "Other": {},
            "Error": TEXT,
        },
    },
}


def test_what_is_asked_for_stays_with_all_that_it_refers_to() -> None:
    found = reduced(DOCUMENT, {"/a": "post"}, ["Error"])
    assert found["paths"] == {"/a": {"post": DOCUMENT["paths"]["/a"]["post"]}}
    assert found["components"]["requestBodies"] == DOCUMENT["components"]["requestBodies"]
    node = DOCUMENT["components"]["schemas"]["Node"]["properties"]
    assert found["components"]["schemas"] == {
        "Error": TEXT,
        # What may be null is so by its type, and a member of that name stays a member.
        "Node": {"properties": {**node, "name": {"anyOf": [TEXT, {"type": "null"}]}}},
    }


@pytest.mark.parametrize(("path", "method"), [("/c", "get"), ("/b", "post")])
def test_what_is_not_in_the_document_is_not_passed_over(path: str, method: str) -> None:
    with pytest.raises(KeyError):
        reduced(DOCUMENT, {path: method})
