"""Structural tags: what is let through is a text of the tag, and what is plainly one is let through."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from octavo.engine.requests.vocabulary import Vocabulary
from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.demo_grammars import BYTES, COMPILER, END, TOKENIZER, allowed
from tests.support.runtime.tag_oracle import Tag, ends

WHITE = frozenset(b" \t\r\n")
TAG_BYTES = frozenset(b"<>ab:,/()12")


def wanted(tree: Tag) -> StructuredOutputsParams:
    return StructuredOutputsParams(structural_tag={"type": "structural_tag", "format": tree})


def draw(tree: Tag, seed: int) -> str | None:
    """What a model that knows nothing would write, if it liked the letters of tags; None without an end.
    White space may stand wherever a document may begin: it is left to the tests of documents."""
    numbers = np.random.default_rng(seed)
    progress, token_ids = COMPILER.prepare(wanted(tree), [END]).start(), list[int]()
    while len(token_ids) < 80:
        choices = [
            one for one in allowed(progress.next_mask(token_ids)) if not WHITE & set(BYTES[one])
        ]
        if progress.error == "the grammar's library failed on it":
            event(progress.error)  # it ends its request, and says so
            return None
        if not choices:
            return None
        assert progress.error is None
        liked = [one for one in choices if BYTES[one] and TAG_BYTES.issuperset(BYTES[one])]
        if END in choices and numbers.random() < 0.1:
            choices = [END]
        elif liked and numbers.random() < 0.9:
            choices = liked
        token_ids.append(int(numbers.choice(choices)))
        if token_ids[-1] == END:
            return b"".join(BYTES[one] for one in token_ids[:-1]).decode()
    return None


def accepts(tree: Tag, text: str) -> bool:
    progress, token_ids = COMPILER.prepare(wanted(tree), [END]).start(), list[int]()
    for token_id in [*TOKENIZER.encode(text, add_special_tokens=False), END]:
        if token_id not in allowed(progress.next_mask(token_ids)):
            return False
        token_ids.append(token_id)
    return progress.error is None


texts = st.sampled_from(["a", "ab:", "<b>", "(", "1,2"])
bounded = st.one_of(
    st.builds(lambda value: {"type": "const_string", "value": value}, texts),
    st.builds(
        lambda pattern: {"type": "regex", "pattern": pattern},
        st.sampled_from(["[ab]+", "a/b?", "(1|2){1,3}", r"\(", "[^<]{0,4}", ".*"]),
    ),
    st.builds(
        lambda schema: {"type": "json_schema", "json_schema": schema},
        st.sampled_from(
            [{"type": "integer", "minimum": 0, "maximum": 99}, {"enum": ["a", 1]}, {"type": "null"}]
        ),
    ),
)
free = st.builds(
    lambda held: {"type": "any_text", "excludes": held},
    st.sampled_from([[], ["ab"], ["(", "12"]]),
)


def tag_of(content: st.SearchStrategy[Tag]) -> st.SearchStrategy[Tag]:
    return st.builds(
        lambda begin, inner, end: {"type": "tag", "begin": begin, "content": inner, "end": end},
        st.sampled_from(["<a>", "<b:", "(1)", "<ab>"]),
        content,
        st.sampled_from([">", "</a>", [")", "//"], ["<", "</a>"]]),
    )


def compound(inner: st.SearchStrategy[Tag]) -> st.SearchStrategy[Tag]:
    several = st.lists(inner, min_size=1, max_size=3)
    tags = st.lists(tag_of(inner | free), min_size=1, max_size=3)
    flags = st.fixed_dictionaries(
        {}, optional={"at_least_one": st.booleans(), "stop_after_first": st.booleans()}
    )
    return st.one_of(
        st.builds(lambda found: {"type": "sequence", "elements": found}, several),
        st.builds(lambda found: {"type": "or", "elements": found}, several),
        st.builds(
            lambda kind, one: {"type": kind, "content": one},
            st.sampled_from(["optional", "star", "plus"]),
            inner,
        ),
        st.builds(
            lambda least, more, one: {
                "type": "repeat",
                "min": least,
                "max": least + more if more else -1,
                "content": one,
            },
            *(st.integers(0, 2), st.integers(0, 2), inner),
        ),
        tag_of(inner | free),
        st.builds(
            lambda found, extra: {
                "type": "tags_with_separator",
                "tags": found,
                "separator": ",",
                **extra,
            },
            *(tags, flags),
        ),
        st.builds(
            lambda found, extra, held: {
                "type": "triggered_tags",
                "triggers": sorted({one["begin"][0] for one in found}),
                "tags": found,
                "excludes": held,
                **extra,
            },
            *(tags, flags, st.sampled_from([[], ["ab"]])),
        ),
    )


@settings(max_examples=60, deadline=None)
@given(tree=st.recursive(bounded, compound, max_leaves=5) | free, seed=st.integers(0, 2**32))
def test_what_is_let_through_is_a_text_of_the_tag(tree: Tag, seed: int) -> None:
    try:
        COMPILER.prepare(wanted(tree), [END])
    except InvalidParameterError:
        event("refused")
        return
    text = draw(tree, seed)
    event("no end" if text is None else "a text")
    if text is not None:
        assert len(text) in ends(tree, text, 0), (tree, text)


def call(name: str, schema: Any) -> Tag:
    content = {"type": "json_schema", "json_schema": schema}
    return {"type": "tag", "begin": f"<fn={name}>", "content": content, "end": "</fn>"}


NUMBER = {"type": "integer"}
CALLS = {"triggers": ["<fn="], "tags": [call("f", NUMBER), call("g", {"type": "boolean"})]}
TRIGGERED = {"type": "triggered_tags", **CALLS}
THINKING = {"type": "tag", "begin": "<t>", "content": {"type": "any_text"}, "end": "</t>"}
WORD = {"type": "regex", "pattern": "[a-z/]+"}


@pytest.mark.parametrize(
    ("tree", "taken", "left"),
    [
        (
            TRIGGERED,
            ["", "no call, <fn but text", "a <fn=f>1</fn> b\n<fn=g>true</fn><fn=f>2</fn>"],
            ["<fn=", "<fn=h>1</fn>", "<fn=f>x</fn>", "<fn=f>1", "<fn=g>1</fn>"],
        ),
        (
            TRIGGERED | {"at_least_one": True, "stop_after_first": True},
            ["<fn=f>1</fn>"],
            ["", "a <fn=f>1</fn>", "<fn=f>1</fn> ", "<fn=f>1</fn><fn=f>1</fn>"],
        ),
        (
            {"type": "sequence", "elements": [THINKING, TRIGGERED]},
            ["<t>who </fn> <t> knows\n</t>then <fn=f>1</fn>", "<t></t>"],
            ["<t>", "then", "<t></t><fn=f>x"],
        ),
        (
            {"type": "tags_with_separator", "tags": CALLS["tags"], "separator": ", "},
            ["", "<fn=f>1</fn>, <fn=g>false</fn>"],
            [", ", "<fn=f>1</fn> <fn=g>false</fn>"],
        ),
        (
            {"type": "dispatch", "rules": [["<a>", WORD], ["<n>", call("f", NUMBER)]]},
            ["x <a>b/c", "<n><fn=f>1</fn> and <a>z 1"],
            ["<a>1", "<n>"],
        ),
        (
            {"type": "dispatch", "rules": [["<a>", WORD]], "loop": False},
            ["x <a>b", "x"],
            ["<a>b 1", "<a>b<a>c"],
        ),
        (
            {"type": "tag", "begin": "[", "content": WORD, "end": ["/]", "]"]},
            ["[a]", "[a/]"],
            ["[]", "[a"],
        ),
        (
            {
                "type": "repeat",
                "min": 1,
                "max": 2,
                "content": {"type": "const_string", "value": "ab"},
            },
            ["ab", "abab"],
            ["", "ababab"],
        ),
        ({"type": "const_string", "value": ""}, [""], ["a"]),
        ({"type": "regex", "pattern": "a\n/\\/\\\n?"}, ["a\n//\n", "a\n//"], ["a//"]),
    ],
)
def test_each_kind_of_node(tree: Tag, taken: Sequence[str], left: Sequence[str]) -> None:
    assert [text for text in taken if not accepts(tree, text)] == []
    assert [text for text in left if accepts(tree, text)] == []


def test_the_older_form_and_text_are_the_same_tag() -> None:
    older = {
        "structures": [{"begin": "<fn=f>", "schema": NUMBER, "end": "</fn>"}],
        "triggers": ["<fn="],
    }
    newer = {"format": {**TRIGGERED, "tags": [call("f", NUMBER)]}}
    trees = [
        StructuredOutputsParams(structural_tag=each).tag_format
        for each in (older, newer, json.dumps({"type": "structural_tag", **older}))
    ]
    assert trees[0] == trees[1] == trees[2]


def test_a_special_token_begins_the_tag_that_its_text_begins() -> None:
    special = {
        text: one for one, text in Vocabulary(TOKENIZER.backend).special.items() if one != END
    }
    text, token_id = next((text, one) for text, one in special.items() if text.startswith("<"))
    tree = {**TRIGGERED, "triggers": [text[:3]], "tags": [{**call("f", NUMBER), "begin": text}]}
    progress = COMPILER.prepare(wanted(tree), [END]).start()
    assert token_id in allowed(progress.next_mask([]))
    inside = allowed(progress.next_mask([token_id]))
    assert {BYTES[one][:1] for one in inside} <= {bytes([each]) for each in b"-0123456789"}


def wrong() -> Iterator[tuple[Any, str]]:
    yield {"format": {"type": "any_txt"}}, "any_txt.*format.type"
    yield {"format": {"type": "tag", "begin": "a", "end": "b"}}, "content"
    yield {"format": {"type": "const_string", "value": "a", "more": 1}}, "more"
    yield {"format": {"type": "grammar", "grammar": "x"}}, "structured_outputs.grammar"
    yield {"format": {"type": "sequence", "elements": [{"type": "token", "token": 4}]}}, "token"
    yield {"format": {"type": "json_schema", "json_schema": {}, "style": "glm_xml"}}, "glm_xml"
    yield {"format": {"type": "json_schema", "json_schema": {}, "any_order": True}}, "any_order"
    yield {"format": {"type": "any_text", "max_tokens": 5}}, "max_tokens"
    yield {"format": {"type": "json_schema", "json_schema": {"const": 2**63}}}, "exactly"
    yield {"format": {"type": "regex", "pattern": "(a{900}){900}"}}, "repeat less"
    yield {"structures": [{"begin": "a", "schema": {}}], "triggers": []}, "end"
    yield {}, "format"
    yield "[]", "no object"
    yield "{", "none"


@pytest.mark.parametrize(("tag", "word"), list(wrong()))
def test_what_is_no_tag_is_refused_by_name(tag: Any, word: str) -> None:
    with pytest.raises(InvalidParameterError, match=word):
        StructuredOutputsParams(structural_tag=tag)


ANY: Tag = {"type": "any_text"}


@pytest.mark.parametrize(
    ("tree", "word"),
    [
        ({"type": "sequence", "elements": [ANY, call("f", NUMBER)]}, r"elements\[0\] is text"),
        ({"type": "star", "content": ANY}, "content is text"),
        ({**TRIGGERED, "triggers": ["<gn="]}, r"tags\[0\] begins with"),
        ({**TRIGGERED, "triggers": ["<fn=", "["]}, r"triggers\[1\] is '\['"),
        ({"type": "or", "elements": []}, "at least one"),
        ({"type": "repeat", "min": 2, "max": 1, "content": call("f", NUMBER)}, "2 to 1"),
        ({"type": "any_text", "excludes": [""]}, "empty text"),
        ({"type": "tag", "begin": "a", "content": ANY, "end": ["", "b"]}, "give its tag an end"),
        (call("f", {"not": {}}), r"format\.content\.json_schema: .*not"),
    ],
)
def test_what_cannot_be_held_to_is_refused_with_its_place(tree: Tag, word: str) -> None:
    with pytest.raises(InvalidParameterError, match=word):
        COMPILER.prepare(wanted(tree), [END])


def test_an_expression_that_is_none_is_told_as_it_was_sent_and_where() -> None:
    """And nothing of the grammar that the tag becomes."""
    wrong = {"type": "tag", "begin": "<a>", "end": "</a>", "content": WORD | {"pattern": "a/\n("}}
    tree = {"type": "sequence", "elements": [WORD, wrong]}
    with pytest.raises(InvalidParameterError) as caught:
        COMPILER.prepare(wanted(tree), [END])
    assert str(caught.value) == (
        "structured_outputs cannot be held to: format.elements[1].content.pattern, the regular expression "
        "'a/\\n(': unclosed group"
    )
    with pytest.raises(InvalidParameterError, match="single backslash"):
        wanted(WORD | {"pattern": "a\\\\\\"})
    assert accepts(WORD | {"pattern": "a\\\\"}, "a\\")
