from __future__ import annotations

from pathlib import Path

import pytest

from octavo_operator import reference
from octavo_operator.api.conditions import ConditionType, Reason

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/llmdeployment.md").read_text(encoding="utf-8")
SCHEMA = {"properties": {"spec": {"properties": {}}, "status": {"properties": {}}}}


def test_the_page_explains_every_reason_and_every_condition() -> None:
    for name in (*Reason, *ConditionType):
        assert f"| `{name.value}` |" in PAGE


def test_the_prose_stays_and_the_tables_are_made_anew() -> None:
    page = "before\n<!-- generated: reasons -->\nstale\n<!-- end -->\nafter\n"
    found = reference.updated(page, SCHEMA)
    assert found.startswith("before\n")
    assert found.endswith("after\n")
    assert "stale" not in found
    assert reference.updated(found, SCHEMA) == found


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        reference.updated("<!-- generated: nothing -->\n<!-- end -->", SCHEMA)
