"""Calls in thoughts that were not closed: the call ends them, and a mark of one alone does not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from octavo.engine.requests.marked_text import MarkedText
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.server.openai.parsing.answer import Markup
from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.parsing.pieces import Reasoning
from octavo.server.openai.parsing.reasoning import REASONING_FORMATS
from tests.support.runtime.cut_text import TEXT_OF_F, in_pieces, one_by_one
from tests.support.runtime.read_calls import Call, read_with
from tests.support.runtime.written_calls import WRITERS, Calls

ENDING = [name for name, (form, _) in WRITERS.items() if form.ends_reasoning]
OWN = {name: name for name in ("apertus", "gemma4", "k2_horizon", "mistral", "plamo3")}
CALLED: Calls = [("f", {"text": 'so </think> "{'}), ("f", {})]


def markup_of(name: str) -> Markup:
    reasoning = OWN.get(name.split()[0], "qwen3")
    return Markup(name, WRITERS[name][0], reasoning, REASONING_FORMATS[reasoning])


def read(
    markup: Markup, *pieces: MarkedText, is_held: bool = False
) -> tuple[str, Calls, str, list[str]]:
    """Reasoning, calls, content, and the kinds of what came one behind the other."""
    assert markup.reasoning is not None
    parser = markup.parser(markup.reasoning.opening, TEXT_OF_F, is_held=is_held)
    assert parser is not None
    out = read_with(parser, *pieces)
    calls = [one for one in out if isinstance(one, Call)]
    kinds = [type(one).__name__ for one in out]
    return (
        "".join(one.text for one in out if isinstance(one, Reasoning)),
        [(call.name, json.loads(call.arguments)) for call in calls],
        "".join(one for one in out if isinstance(one, str)),
        [kind for at, kind in enumerate(kinds) if kinds[at - 1 : at] != [kind]],
    )


def test_those_of_vllm() -> None:
    names = {name.split()[0] for name in ENDING}
    assert names == {"apertus", "deepseek_v4", "deepseek_v41", "gemma4", "functiongemma"} | {
        *(
            "glm45",
            "hermes",
            "k2_horizon",
            "kimi_k2",
            "minimax_m2",
            "mistral",
            "plamo3",
            "qwen3_coder",
        )
    }


@pytest.mark.parametrize("name", [name for name in ENDING if name != "qwen3_coder bare"])
def test_a_call_ends_thoughts_that_no_tag_has_closed(name: str) -> None:
    markup = markup_of(name)
    assert markup.calls is not None
    assert markup.reasoning is not None
    mark, closing = markup.calls.openings[0], markup.reasoning.closing
    called = WRITERS[name][1](CALLED)
    thought = f"They want {mark} and then x, or {mark}!"
    for behind in ("", closing, f"\n{closing}\n\nDone {mark}?"):
        text = MarkedText(f"{thought}\n{called}{behind}")
        expected = read(markup, text)
        content = f"Done {mark}?" if "Done" in behind else ""
        assert expected[:3] == (thought, CALLED, content)
        assert expected[3] == ["Reasoning", "Call", "str"][: 3 if content else 2]
        assert read(markup, *one_by_one(text)) == expected
        for at in range(len(text) + 1 if content else 0):
            assert read(markup, text[:at], text[at:]) == expected, at
    cut = MarkedText(f"{thought}\n{mark}")
    assert read(markup, cut)[:3] == (f"{thought}\n{mark}", [], "")
    closed = MarkedText(f"{thought}{closing}Hi {closing}{called}")
    assert read(markup, closed)[:3] == (thought, CALLED, f"Hi {closing}")
    # What an answer is held to begins behind the tag.
    held = MarkedText(f"{thought}{called.replace('</think>', '')}{closing}Hi")
    assert read(markup, held, is_held=True)[1:3] == ([], "Hi")


@pytest.mark.parametrize("name", ENDING)
@settings(max_examples=8)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_it_does_not_matter_where_the_text_is_cut(
    name: str, data: st.DataObject, seed: int
) -> None:
    markup = markup_of(name)
    assert markup.calls is not None
    assert markup.reasoning is not None
    called = WRITERS[name][1](CALLED)
    parts = [called, called[:-7], called[: seed % len(called)], " ", "\n", "Hm", "<", '{"']
    parts += [*markup.calls.openings, markup.reasoning.closing, markup.reasoning.opening]
    text = MarkedText("".join(data.draw(st.lists(st.sampled_from(parts), max_size=8))))

    def told(*pieces: MarkedText) -> object:
        assert markup.reasoning is not None
        parser = markup.parser(markup.reasoning.opening, TEXT_OF_F)
        assert parser is not None
        out = read_with(parser, *pieces)
        kinds: list[list[object]] = []
        for one in out:
            kind, shown = (
                (Call, one[1:])
                if isinstance(one, Call)
                else (type(one), one.text if isinstance(one, Reasoning) else one)
            )
            if kinds and kinds[-1][0] is kind is not Call:
                kinds[-1][1] += shown  # type: ignore[operator]
            else:
                kinds.append([kind, shown])
        return kinds

    expected = told(text)
    assert told(*in_pieces(text, seed)) == expected
    assert told(*one_by_one(text)) == expected


def test_tokens_behind_such_a_call_are_none_of_reasoning() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({one: place for place, one in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    vocabulary = Vocabulary(backend)
    markup = Markup("hermes", CALL_FORMATS["hermes"], "qwen3", REASONING_FORMATS["qwen3"])

    def count(text: str, *, is_held: bool = False) -> int:
        new = markup.reasoning_tokens("<think>", vocabulary, TEXT_OF_F, is_held=is_held)
        assert new is not None
        ids = backend.encode(text, add_special_tokens=False).ids
        one, other = new(), new()
        found = sum(one.read([token]) for token in ids) + one.end()
        assert other.read(ids) + other.end() == found
        return found

    mark = "<tool_call>"
    call = f'{mark}{{"name": "é", "arguments": {{}}}}</tool_call>'
    assert count(f"Hé {call} so</think>x") == 4 + len(mark)
    assert count(f"Hm {mark} so</think>x") == 3 + len(mark) + 3 + 8
    assert count(f'{mark}{mark}{{"name": "é') == 2 * len(mark) + 12
    assert count(f"{call}</think>x", is_held=True) == len(call) + 1 + 8
