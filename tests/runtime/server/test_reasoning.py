"""Reasoning: what the model thinks is told apart from what it answers, wherever the text is cut."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from octavo.config import EngineConfig
from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.errors import InvalidConfigurationError
from octavo.server.openai.parsing.answer import Markup
from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.parsing.names import (
    CALL_ALIASES,
    REASONING_ALIASES,
    REASONING_PARSERS,
    TOOL_CALL_PARSERS,
)
from octavo.server.openai.parsing.pieces import Reasoning
from octavo.server.openai.parsing.reasoning import REASONING_FORMATS, ReasoningFormat
from octavo.server.process.options import ServeOptions
from tests.support.runtime.read_calls import Call, read_with

QWEN, R1, MISTRAL = (REASONING_FORMATS[name] for name in ("qwen3", "deepseek_r1", "mistral"))
CALL = '<tool_call>{"name": "f", "arguments": {"a": "</think>"}}</tool_call>'


def read(form: object, prompt: str, *pieces: str | MarkedText) -> tuple[str, str, int]:
    """Reasoning, content and the number of calls."""
    markup = Markup("hermes", CALL_FORMATS["hermes"], "x", form)  # type: ignore[arg-type]
    parser = markup.parser(prompt, {"f": None})
    assert parser is not None
    marked = [MarkedText(piece) if isinstance(piece, str) else piece for piece in pieces]
    out = read_with(parser, *marked)
    reasoning = "".join(item.text for item in out if isinstance(item, Reasoning))
    content = "".join(item for item in out if isinstance(item, str))
    return reasoning, content, sum(isinstance(item, Call) for item in out)


@pytest.mark.parametrize(
    ("form", "prompt", "text", "expected"),
    [
        (
            QWEN,
            "assistant\n",
            "<think>\nHm.\n\nSo.\n</think>\n\nYes.\n",
            ("Hm.\n\nSo.", "Yes.\n", 0),
        ),
        (QWEN, "assistant\n<think>\n", "Hm.</think>Yes.", ("Hm.", "Yes.", 0)),
        (QWEN, "assistant\n<think>\n\n</think>\n\n", "Yes.", ("", "Yes.", 0)),
        (QWEN, "assistant\n", " Yes <think>no</think>", ("", " Yes <think>no</think>", 0)),
        (QWEN, "what is <think>?\nassistant\n", "A tag.", ("", "A tag.", 0)),
        (QWEN, "<think>", "cut off in though", ("cut off in though", "", 0)),
        (QWEN, "<think>", f"Use f.\n</think>\nSo: {CALL}\n", ("Use f.", "So: ", 1)),
        (R1, "Assistant", "Hm.</think>Yes.", ("Hm.", "Yes.", 0)),
        (R1, "Assistant<think>\n", "<think>\nHm.\n</think>\n", ("Hm.", "", 0)),
        (R1, "Assistant<think></think>", "Yes.", ("", "Yes.", 0)),
        (MISTRAL, "[/INST]", "[THINK]Hm.[/THINK]Yes.", ("Hm.", "Yes.", 0)),
    ],
)
def test_reasoning_is_told_apart(
    form: object, prompt: str, text: str, expected: tuple[str, str, int]
) -> None:
    assert read(form, prompt, text) == expected
    assert read(form, prompt, *text) == expected


parts = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "[THINK]", "</thi", "<", "<|x|>", " ", "\n", "Hm.", "é"]
        + [CALL, "<tool_call>"]
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(
    parts,
    st.sampled_from([QWEN, R1, MISTRAL]),
    st.booleans(),
    st.lists(st.integers(0, 200), max_size=6),
    st.data(),
)
def test_it_does_not_matter_where_the_text_is_cut(
    chosen: list[str], form: ReasoningFormat, is_open: bool, cuts: list[int], data: st.DataObject
) -> None:
    def made(part: str) -> MarkedText:
        is_special = part.endswith(">") and data.draw(st.booleans())
        return MarkedText(part, ((0, len(part)),) if is_special else ())

    prompt = form.opening if is_open else ""
    text = joined([made(part) for part in chosen] or [MarkedText()])
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    expected = read(form, prompt, text)
    for behind in itertools.accumulate(map(len, chosen)):
        assert read(form, prompt, text[:behind], text[behind:]) == expected
    assert read(form, prompt, *(text[a:b] for a, b in itertools.pairwise(places))) == expected
    assert read(form, prompt, *(text[at : at + 1] for at in range(len(text)))) == expected


@pytest.mark.parametrize("is_token", [True, False])
def test_the_tokens_of_reasoning_are_counted(is_token: bool) -> None:
    backend = Tokenizer(models.BPE(dict.fromkeys("x", 0), []))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({one: place for place, one in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if is_token:
        backend.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    markup = Markup(reasoning_name="qwen3", reasoning=QWEN)

    def count(prompt: str, text: str) -> int:
        new = markup.reasoning_tokens(prompt, Vocabulary(backend), {})
        assert new is not None
        ids = backend.encode(text, add_special_tokens=False).ids
        whole = new().read(ids)
        counter = new()
        assert sum(counter.read([one]) for one in ids) == whole
        return whole

    opening, closing = (1, 1) if is_token else (7, 8)
    assert count("", "\n<think>Hé</think>Yes") == 1 + opening + 3 + closing
    assert count("<think>\n", "Hm</think>Yes") == 2 + closing
    assert count("<think>\n", "Hm<thi") == 6
    assert count("", "Yes <think>no</think>") == 0
    # Behind the heads that gpt-oss writes it may think again.
    markup = Markup(reasoning_name="openai_gptoss", reasoning=REASONING_FORMATS["openai_gptoss"])
    thoughts = "<|channel|>analysis<|message|>Hm<|end|>"
    again = f"{thoughts}<|start|>assistant{thoughts}"
    said = "<|start|>assistant<|channel|>final<|message|>Yes"
    assert count("", thoughts + said) == len(thoughts)
    assert count("", again + said) == len(again)
    assert count("", said + thoughts) == 0


def test_every_name_is_that_of_a_parser() -> None:
    assert {*TOOL_CALL_PARSERS} == {"auto", "none", *CALL_FORMATS, *CALL_ALIASES}
    assert {*REASONING_PARSERS} == {"auto", "none", *REASONING_FORMATS, *REASONING_ALIASES}
    assert {*CALL_ALIASES.values()} <= {*CALL_FORMATS}
    assert {*REASONING_ALIASES.values()} <= {*REASONING_FORMATS}


@pytest.mark.parametrize(
    ("field", "name", "advice"),
    [
        ("tool_call_parser", "hf", "use auto"),
        ("reasoning_parser", "hf", "use auto"),
        ("reasoning_parser", "minimax_m2_append_think", "use none, .* or minimax_m2"),
    ],
)
def test_vllm_s_other_names_are_told_what_to_use(field: str, name: str, advice: str) -> None:
    changed: dict[str, Any] = {field: name}
    with pytest.raises(InvalidConfigurationError, match=f"{field} is '{name}'; {advice}"):
        replace(
            ServeOptions(model="m", engine=EngineConfig(model="m"), served_names=("m",)), **changed
        )


@pytest.mark.parametrize(
    ("said", "text", "expected"),
    [
        ("<think>Hm, ", "so.</think>Yes.", ("so.", "Yes.", 0)),
        ("<think>Hm.</think>The answer", " is 4.", ("", " is 4.", 0)),
        ("The answer", " is 4.", ("", " is 4.", 0)),
    ],
)
@pytest.mark.parametrize("form", [QWEN, R1])
def test_a_message_that_goes_on_is_where_its_last_tag_says(
    form: ReasoningFormat, said: str, text: str, expected: tuple[str, str, int]
) -> None:
    markup = Markup("hermes", CALL_FORMATS["hermes"], "x", form)
    assert read(form, markup.begin_of_answer(f"assistant\n{said}", said), text) == expected


def test_reasoning_may_be_left_out() -> None:
    parser = Markup("x", None, "x", QWEN).parser("<think>", {}, tells_reasoning=False)
    assert parser is not None
    pieces = read_with(parser, MarkedText("Hm.</think>Yes"))
    assert pieces == ["Yes"]
    cut = Markup("x", None, "x", QWEN).parser("<think>", {}, tells_reasoning=False)
    assert cut is not None
    assert [*cut.push(MarkedText("Hm. <")), *cut.flush()] == []
