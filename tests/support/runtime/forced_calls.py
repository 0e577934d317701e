"""Forced calls of functions with random schemas: drawn from the grammar of each format, read by its parser,
whole and in pieces, and judged by jsonschema.

`make schemas` draws many of them: `python -m tests.support.runtime.forced_calls --schemas 40`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]

from octavo.engine.grammars import GrammarCompiler
from octavo.engine.requests.marked_text import MarkedText
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.errors import InvalidParameterError
from octavo.model_source import resolve
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.parsing.answer import Markup
from octavo.server.openai.parsing.bare_arguments import KEY, BareTags
from octavo.server.openai.parsing.formats import CALL_FORMATS, CallFormat, Tools
from octavo.server.openai.parsing.formats.deepseek_v3 import DEEPSEEK_V31
from octavo.server.openai.parsing.formats.glm45 import GLM47
from octavo.server.openai.parsing.formats.mistral import MISTRAL_NAMED
from octavo.server.openai.protocol import ChatCompletionRequest
from octavo.server.openai.tool_choice import answer_format, read_tool_use
from octavo.structured_outputs import StructuredOutputsParams
from octavo.tokenizer import load_tokenizer
from tests.support.runtime.cut_text import in_pieces
from tests.support.runtime.followed import Followed
from tests.support.runtime.random_schemas import Schema, random_parameters
from tests.support.runtime.read_calls import Call, read_with

FORMATS: dict[str, CallFormat] = {
    **CALL_FORMATS,
    "mistral_named": MISTRAL_NAMED,
    "deepseek_v31": DEEPSEEK_V31,
    "glm47": GLM47,
}
"""All of them, and variants of some."""

_PUNCTUATION = ('"', '"}', "}", "]", ", ", ",", '": ', "1", "\n", "</", "\\")
_CHOICES: list[dict[str, Any]] = [
    {"tool_choice": "required"},
    {"tool_choice": "required", "parallel_tool_calls": False},
    {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"tool_choice": "auto"},
]


class ForcedCalls:
    """
    Attributes:
        counts: What became of the draws.
        refused: Reasons why schemas were refused, by the name of the format.
        wrong: Each a format, its text and what is wrong with it.
    """

    def __init__(self) -> None:
        self.tokenizer = load_tokenizer(resolve("builtin://demo"))
        self.special = Vocabulary(self.tokenizer.backend).special
        self.compiler = GrammarCompiler(lambda: self.tokenizer, self.tokenizer.vocab_size)
        self.counts = Counter[str]()
        self.refused = dict[str, Counter[str]]()
        self.wrong = list[str]()

    def draw(self, name: str, seed: int, texts: int = 3) -> None:
        """Calls of two functions with random parameters."""
        chance = random.Random(f"{name} {seed}")  # noqa: S311
        form = FORMATS[name]
        schemas = {function: random_parameters(chance) for function in ("f", "get_it")}
        choice = chance.choice(_CHOICES)
        asked = self._asked(name, form, schemas, choice)
        if asked is None:
            return
        wanted, tools = asked
        try:
            following = [Followed(self.tokenizer, wanted, self.compiler) for _ in range(texts)]
        except InvalidParameterError as error:
            self._refuse(name, str(error))
            return
        self.counts["schemas"] += 1
        for followed in following:
            text = followed.steered(chance, texts_of(form))
            if text is None:
                self.counts["without an end"] += 1
                continue
            is_forced = choice["tool_choice"] != "auto"
            for told in self._faults(form, tools, schemas, text, chance, is_forced=is_forced):
                self.wrong.append(f"{name} {seed}: {told}: {text.text!r} of {json.dumps(schemas)}")

    def _asked(
        self,
        name: str,
        form: CallFormat,
        schemas: dict[str, Schema],
        choice: dict[str, Any],
    ) -> tuple[StructuredOutputsParams, Tools] | None:
        tools = [
            {"type": "function", "function": {"name": key, "parameters": one, "strict": True}}
            for key, one in schemas.items()
        ]
        request = ChatCompletionRequest.parse(
            {"model": "m", "messages": [], "tools": tools, **choice}
        )
        use = read_tool_use(request)
        try:
            wanted = answer_format(request, use, form, self.special)
        except (ApiError, InvalidParameterError) as error:
            self._refuse(name, error.detail.message if isinstance(error, ApiError) else str(error))
            return None
        assert wanted is not None
        return wanted, use.callable

    def _refuse(self, name: str, why: str) -> None:
        self.counts["refused"] += 1
        self.refused.setdefault(name, Counter())[re.sub(r"'.*'", "…", why)[:160]] += 1

    def _faults(
        self,
        form: CallFormat,
        tools: Tools,
        schemas: dict[str, Schema],
        text: MarkedText,
        chance: random.Random,
        *,
        is_forced: bool,
    ) -> Iterator[str]:
        read = [
            read_calls(form, tools, pieces)
            for pieces in ([text], in_pieces(text, chance.randrange(100)))
        ]
        if read[0] != read[1]:
            yield f"in pieces it is {read[1]}, and {read[0]} in one"
        calls = [one for one in read[0] if isinstance(one, tuple)]
        self.counts["texts"] += 1
        self.counts["calls"] += len(calls)
        if is_forced and (not calls or calls != read[0]):
            yield f"it is read as {read[0]}"
        for name, arguments, is_whole in calls:
            if not is_whole:
                yield f"{name} has no end"
                continue
            try:
                jsonschema.validate(json.loads(arguments), schemas[name], format_checker=_CHECKER)
            except (ValueError, jsonschema.ValidationError) as error:
                yield f"{arguments!r} is invalid: {str(error).partition(chr(10))[0]}"


_CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER


def texts_of(form: CallFormat) -> list[str]:
    """What is written around values and between them in a format."""
    shape = form.shape

    found = [shape.tag, shape.call_end, shape.end, shape.call_end + shape.end]
    if shape.notation is not None:
        parts = [getattr(shape.notation, name) for name in type(shape.notation).__slots__]
        found += [part.replace(KEY, "city") for part in parts if isinstance(part, str)]
        if isinstance(shape.notation, BareTags):
            notation = shape.notation
            found += [notation.value_end_of(key) + notation.between for key in ("days", "city")]
            found.append(f"\n{notation.value_end}\n")
    return [text for text in dict.fromkeys((*found, *_PUNCTUATION)) if text]


def read_calls(
    form: CallFormat, tools: Tools, pieces: list[MarkedText]
) -> list[str | tuple[str, str, bool]]:
    """Content in one, and calls without their ids."""
    parser = Markup("x", form).parser("", tools)
    assert parser is not None
    found: list[str | tuple[str, str, bool]] = []
    for one in read_with(parser, *pieces):
        if isinstance(one, Call):
            found.append((one.name, one.arguments, one.is_whole))
        elif found and isinstance(found[-1], str):
            found[-1] += str(one)
        else:
            found.append(str(one))
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--schemas", type=int, default=40, help="pairs of them for each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=FORMATS, help="this one alone")
    options = parser.parse_args()
    found = ForcedCalls()
    for name in [options.format] if options.format else FORMATS:
        for seed in range(options.seed, options.seed + options.schemas):
            found.draw(name, seed)
    for name, reasons in found.refused.items():
        for why, times in reasons.most_common(12):
            print(f"{name}: {times} refused: {why}")
    print(*found.wrong, sep="\n")
    print(dict(found.counts), f"{len(found.wrong)} wrong")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
