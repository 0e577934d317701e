"""Tables of the reference pages, made from the models, the reasons and the RBAC rules.

A page keeps its prose; what stands between `<!-- generated: NAME -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from octavo_operator import rbac
from octavo_operator.api.conditions import CONDITION_MEANINGS, Reason

PAGES = (
    Path("docs/reference/llmdeployment.md"),
    Path("docs/reference/operator-rbac.md"),
)
_SECTION = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def updated(page: str, schema: dict[str, Any]) -> str:
    """The page with every generated section made anew. Raises KeyError for an unknown section."""
    tables = {
        "spec": fields_table(schema["properties"]["spec"]),
        "status": fields_table(schema["properties"]["status"]),
        "conditions": conditions_table(),
        "reasons": reasons_table(),
        "rbac": rbac_table(rbac.NAMESPACED_RULES),
        "rbac-own-namespace": rbac_table(rbac.OWN_NAMESPACE_RULES),
    }
    return _SECTION.sub(lambda found: f"{found[1]}\n{tables[found[2]]}\n{found[3]}", page)


def fields_table(schema: dict[str, Any]) -> str:
    """Every field below `schema` with type, default and description."""
    rows = [
        f"| `{path}` | {_type(node)} | {_default(node, is_required)} | {_cell(node)} |"
        for path, node, is_required in _fields(schema, "")
    ]
    return "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def conditions_table() -> str:
    """The conditions and what they say."""
    rows = [f"| `{type_.value}` | {text} |" for type_, text in CONDITION_MEANINGS.items()]
    return "\n".join(["| condition | meaning |", "|---|---|", *rows, ""])


def reasons_table() -> str:
    """Every reason with its meaning, who sets it and what to do."""
    rows = [
        f"| `{reason.value}` | {reason.meaning} | {reason.set_by} | {reason.action} |"
        for reason in Reason
    ]
    head = ["| reason | meaning | who finds out | what to do |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def rbac_table(rules: tuple[rbac.Rule, ...]) -> str:
    """RBAC rules as rows."""
    rows = [
        f"| {f'`{rule.api_group}`' if rule.api_group else 'core'} "
        f"| {', '.join(f'`{resource}`' for resource in rule.resources)} "
        f"| {', '.join(rule.verbs)} | {rule.why} |"
        for rule in rules
    ]
    return "\n".join(["| API group | resources | verbs | why |", "|---|---|---|---|", *rows, ""])


def _fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    required = schema.get("required", ())
    for name, node in schema.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        yield where, node, name in required
        yield from _fields(node, where)
        yield from _fields(node.get("items", {}), f"{where}[]")


def _type(node: dict[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if node["type"] == "array":
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return "map"
    bounds = [f"{text} {node[key]}" for key, text in _BOUNDS if node.get(key, _HUGE) < _HUGE]
    return " ".join([str(node["type"]), *bounds])


_BOUNDS = (("minimum", "≥"), ("maximum", "≤"))
_HUGE = 2**31 - 1
"""A bound of the machine and none of the matter."""


def _default(node: dict[str, Any], is_required: bool) -> str:
    if is_required:
        return "required"
    default = node.get("default")
    return "" if default in (None, "", [], {}) else f"`{default}`"


def _cell(node: dict[str, Any]) -> str:
    return str(node.get("description", "")).replace("|", "\\|").replace("\n", " ")
