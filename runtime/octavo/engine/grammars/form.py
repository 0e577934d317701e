"""Form of a grammar: from structured outputs to what llguidance reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llguidance import LLMatcher

from octavo.engine.grammars.tag_grammar import TagGrammar
from octavo.grammar_text import text_up_to, written
from octavo.schema_texts import narrowed
from octavo.structured_outputs import ReasoningTags, StructuredOutputsParams

_WHITESPACE = r" |\r?\n[ \t]{0,40}"
"""Between the parts of a JSON document: a space, or a new line and its indentation. JSON has no limit, and
there are models that write on and on."""
_BEHIND_REASONING = r"SPACES: /[ \t\r\n]{1,8}/"
_TEXT = r"TEXT: /(.|\n)*/"


@dataclass(frozen=True, slots=True)
class GrammarForm:
    """
    Args:
        text: In llguidance's form.
        schemas: What it is made of, by name.
        places: What errors call these.
        patterns: Regular expressions that it is made of, by what errors call them.
    """

    text: str
    schemas: Mapping[str, dict[str, Any]]
    places: Mapping[str, str]
    patterns: Mapping[str, str] = field(default_factory=dict)


def whole_grammar(outputs: StructuredOutputsParams, special_ids: Mapping[str, int]) -> GrammarForm:
    """
    Args:
        special_ids: Of the tokenizer's special tokens by their text: a tag may be one.

    Raises: `ValueError` for what the library cannot hold.
    """
    schemas, places = outputs.schemas or {}, outputs.places or {}
    patterns: Mapping[str, str] = {}
    if (tree := outputs.tag_format) is not None:
        tag = TagGrammar(tree, special_ids)
        text, schemas, places = LLMatcher.grammar_from_lark(tag.text), tag.schemas, tag.places
        patterns = tag.patterns
    else:
        text = _grammar(outputs)
    if not schemas and outputs.reasoning is None:
        return GrammarForm(text, schemas, places, patterns)
    parts = [{"name": "answer", **_part(text)}]
    for name, schema in schemas.items():
        parts.append({"name": name, **_part(_of_schema(schema))})
    if outputs.reasoning is not None:
        parts.insert(0, {"lark_grammar": _behind(outputs.reasoning, special_ids)})
    return GrammarForm(json.dumps({"grammars": parts}), schemas, places, patterns)


def _grammar(outputs: StructuredOutputsParams) -> str:
    if outputs.regex is not None:
        return LLMatcher.grammar_from_regex(outputs.regex)
    if outputs.grammar is not None:
        return LLMatcher.grammar_from_lark(outputs.grammar)
    if outputs.choice is not None:
        choices = " | ".join(json.dumps(one, ensure_ascii=False) for one in outputs.choice)
        return LLMatcher.grammar_from_lark(f"%llguidance {{}}\nstart: {choices}\n")
    return _of_schema(outputs.schema)


def _of_schema(schema: dict[str, Any]) -> str:
    return LLMatcher.grammar_from_json_schema(
        narrowed(schema),
        overrides={
            "whitespace_flexible": True,
            "whitespace_pattern": _WHITESPACE,
            "coerce_one_of": False,
            "lenient": False,
        },
    )


def _part(grammar: str) -> dict[str, Any]:
    """Of a grammar that stands alone what it is beside others; Lark's is its text."""
    try:
        found = json.loads(grammar)
    except ValueError:
        return {"lark_grammar": grammar}
    (one,) = found["grammars"]
    return {name: one[name] for name in ("lark_grammar", "json_schema") if one[name] is not None}


def _behind(tags: ReasoningTags, special_ids: Mapping[str, int]) -> str:
    """Whatever the model thinks, then the answer; the first closing tag ends it."""
    opening, closing, before = (
        written(text, special_ids)
        for text in (tags.opening, tags.closing + tags.behind, tags.before)
    )
    more = f"({opening} thoughts)*" if tags.behind else "SPACES?"
    start = f"thoughts {more}" if tags.is_open else f"(SPACES? {opening} thoughts {more})?"
    return "\n".join(
        [
            f"start: {start} {before} @answer",
            text_up_to("thoughts", closing),
            _TEXT,
            _BEHIND_REASONING,
        ]
    )
