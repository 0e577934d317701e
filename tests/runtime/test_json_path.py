"""Paths in JSON, as errors name fields."""

from __future__ import annotations

import pytest

from octavo.json_path import json_path


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("messages", 0, "content"), "messages[0].content"),
        (("tools[1]", "function", "parameters"), "tools[1].function.parameters"),
        (("logit_bias", "50256"), "logit_bias.50256"),
        (("input", 3, 0), "input[3][0]"),
        ((0, "a"), "[0].a"),
        ((), ""),
    ],
)
def test_a_place_in_a_list_is_in_brackets_and_a_key_behind_a_dot(
    parts: tuple[str | int, ...], path: str
) -> None:
    assert json_path(*parts) == path
