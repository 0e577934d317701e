from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from octavo_operator import metrics, reference
from octavo_operator.api.conditions import ConditionType, Reason

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/llmdeployment.md").read_text(encoding="utf-8")
SCHEMA: dict[str, Any] = {"properties": {"spec": {"properties": {}}, "status": {"properties": {}}}}


def test_the_page_explains_every_reason_and_every_condition() -> None:
    for name in (*Reason, *ConditionType):
        assert f"| `{name.value}` |" in PAGE


def test_the_page_of_metrics_names_those_of_the_operator_with_their_types() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(octavo_operator_\w+)` \| (\w+) \|", page, re.MULTILINE)
    exposed = re.findall(r"^# TYPE (\w+) (\w+)", metrics.exposition().decode(), re.MULTILINE)
    # A counter's time of creation is a series beside it, which nobody reads.
    assert sorted(documented) == sorted(row for row in exposed if not row[0].endswith("_created"))


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
