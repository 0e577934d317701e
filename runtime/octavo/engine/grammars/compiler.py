"""Grammar compiler. From a request's structured outputs to the grammar that its completions follow."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from llguidance import LLMatcher, LLTokenizer

from octavo.engine.grammars.compiled import CompiledGrammar
from octavo.engine.grammars.form import GrammarForm, whole_grammar
from octavo.engine.grammars.limits import LIMITS, MAX_KEPT, MAX_REFUSED
from octavo.engine.grammars.mask_batch import MaskBatch
from octavo.engine.grammars.progress import on_one_line
from octavo.engine.grammars.refusals import (
    in_our_words,
    pattern_refused,
    placed,
    without_grammar,
)
from octavo.engine.grammars.token_table import read_token_table
from octavo.errors import InvalidParameterError, OctavoError
from octavo.structured_outputs import StructuredOutputsParams
from octavo.tokenizer import Tokenizer

_MOST_CHARACTERS = 1000


class GrammarCompiler:
    """For one model. Safe to use from several threads, which wait for each other no longer than the tokenizer
    takes to be read.

    Args:
        load_tokenizer: Asked once, when the first request wants a grammar.
        vocab_size: The model's, of its logits.
    """

    def __init__(
        self,
        load_tokenizer: Callable[[], Tokenizer],
        vocab_size: int,
        max_kept: int = MAX_KEPT,
        max_refused: int = MAX_REFUSED,
    ) -> None:
        self._masks = MaskBatch(vocab_size)
        self._load_tokenizer = load_tokenizer
        self._vocab_size = vocab_size
        self._max_kept = max_kept
        self._reading = threading.RLock()
        self._keeping = threading.Lock()
        self._tokenizer: Tokenizer | None = None
        self._tables: dict[tuple[int, ...], LLTokenizer] = {}
        self._kept: OrderedDict[tuple[str, tuple[int, ...]], CompiledGrammar] = OrderedDict()
        self._max_refused = max_refused
        self._refused: OrderedDict[bytes, str] = OrderedDict()

    def prepare(
        self, outputs: StructuredOutputsParams, end_token_ids: Sequence[int]
    ) -> CompiledGrammar:
        """Compiles what is not kept.

        Raises:
            InvalidParameterError: The schema or grammar is wrong, too large, or asks for what cannot be
                held to; or the model has no token that could end it.
        """
        ends = self._ends(end_token_ids)
        key = (outputs.key, ends)
        found = self._find(key)
        if found is not None:
            return found
        self.check_refused(outputs, end_token_ids)
        try:
            made = self._compile(outputs, ends)
        except InvalidParameterError as error:
            if error.__cause__ is None:  # else it is the tokenizer's fault, or nobody's
                self.remember(outputs, end_token_ids, error)
            raise
        with self._keeping:
            self._kept[key] = made
            self._kept.move_to_end(key)
            while len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)
        return made

    def is_ready(self, outputs: StructuredOutputsParams, end_token_ids: Sequence[int]) -> bool:
        """Whether `prepare` need not compile."""
        return self._find((outputs.key, self._ends(end_token_ids))) is not None

    def check_refused(self, outputs: StructuredOutputsParams, end_token_ids: Sequence[int]) -> None:
        """Raises again what was raised for the same before."""
        digest = self._digest(outputs, end_token_ids)
        with self._keeping:
            why = self._refused.get(digest)
            if why is None:
                return
            self._refused.move_to_end(digest)
        raise InvalidParameterError(outputs.parameter, why)

    def remember(
        self,
        outputs: StructuredOutputsParams,
        end_token_ids: Sequence[int],
        error: InvalidParameterError,
    ) -> None:
        """That it is refused, and why, as will be as long as nothing changes."""
        digest = self._digest(outputs, end_token_ids)
        with self._keeping:
            self._refused[digest] = str(error)[:_MOST_CHARACTERS]
            self._refused.move_to_end(digest)
            while len(self._refused) > self._max_refused:
                self._refused.popitem(last=False)

    def _digest(self, outputs: StructuredOutputsParams, end_token_ids: Sequence[int]) -> bytes:
        """Of all that an error's words depend on."""
        named = [outputs.key, outputs.parameter, outputs.places, self._ends(end_token_ids)]
        return hashlib.blake2b(json.dumps(named).encode(), digest_size=16).digest()

    def _find(self, key: tuple[str, tuple[int, ...]]) -> CompiledGrammar | None:
        with self._keeping:
            found = self._kept.get(key)
            if found is None or found.is_broken:
                return None
            self._kept.move_to_end(key)
            return found

    def _compile(self, outputs: StructuredOutputsParams, ends: tuple[int, ...]) -> CompiledGrammar:
        if not ends:
            raise _refused(outputs.parameter, "the model names no token that ends a text")
        try:
            table = self._table(ends)
        except OctavoError as error:
            raise _refused(outputs.parameter, f"the tokenizer cannot be read: {error}") from error
        try:
            form = whole_grammar(outputs, self._special_ids())
        # Numbers that the library cannot hold, or a tag that has no end.
        except ValueError as error:
            raise _refused(outputs.parameter, str(error)) from None

        def compile_anew() -> LLMatcher:
            return LLMatcher(table, form.text, log_level=0, limits=LIMITS)

        compiled = CompiledGrammar(compile_anew, self._masks, self._vocab_size, ends)
        matcher = compiled.matcher
        if matcher.is_error():
            why = self._located(outputs, form, table, matcher.get_error())
            raise _refused(outputs.parameter, why)
        if warnings := matcher.get_grammar_warnings():
            raise _refused(outputs.parameter, "; ".join(warnings))
        trial = matcher.deep_copy()
        trial.compute_bitmask()  # what refers to itself alone is valid, and nothing can begin
        if trial.is_error():
            raise _refused(outputs.parameter, trial.get_error())
        return compiled

    def _located(
        self, outputs: StructuredOutputsParams, form: GrammarForm, table: LLTokenizer, why: str
    ) -> str:
        """`why`, with the schema or expression that it is about, and nothing of a grammar that is ours."""
        if outputs.json is not None:
            return placed(why, outputs.schema)
        patterns = form.patterns if outputs.regex is None else {"": outputs.regex}
        for place, pattern in patterns.items():
            text = LLMatcher.grammar_from_regex(pattern)
            alone = LLMatcher(table, text, log_level=0, limits=LIMITS)
            if alone.is_error():
                return pattern_refused(alone.get_error(), pattern, place)
        for name, schema in form.schemas.items():
            text = whole_grammar(StructuredOutputsParams(json=schema), {}).text
            alone = LLMatcher(table, text, log_level=0, limits=LIMITS)
            if alone.is_error():
                return placed(alone.get_error(), schema, form.places.get(name, ""))
        is_theirs = outputs.grammar is not None and not form.schemas
        return why if is_theirs else without_grammar(why)

    def _ends(self, end_token_ids: Sequence[int]) -> tuple[int, ...]:
        """Those that the model can draw."""
        return tuple(sorted({one for one in end_token_ids if one < self._vocab_size}))

    def _table(self, ends: tuple[int, ...]) -> LLTokenizer:
        with self._reading:
            table = self._tables.get(ends)
            if table is None:
                table = read_token_table(self._read_tokenizer(), self._vocab_size, ends)
                self._tables = {ends: table}  # requests of one server name the same ones
            return table

    def _special_ids(self) -> dict[str, int]:
        added = self._read_tokenizer().backend.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}

    def _read_tokenizer(self) -> Tokenizer:
        with self._reading:
            if self._tokenizer is None:
                self._tokenizer = self._load_tokenizer()
            return self._tokenizer


def _refused(parameter: str, why: str) -> InvalidParameterError:
    shown = on_one_line(in_our_words(why))
    return InvalidParameterError(parameter, f"{parameter} cannot be held to: {shown:.300}")
