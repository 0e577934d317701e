"""Reasoning in a model's text: what it thinks before it answers, between tags such as `<think>`.

Some templates open the block in the prompt, so that the answer begins within it; others leave it to the
model, and close an empty one in the prompt where it shall not think.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.server.openai.parsing.calls_in_reasoning import CallBeginning, CallsInReasoning
from octavo.server.openai.parsing.cursor import any_of
from octavo.server.openai.parsing.pieces import WHITESPACE, Reasoning, held_back


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """Args:
    is_assumed: An answer begins with reasoning even where neither the prompt nor the model opens it.
    behind: What stands between the closing tag and whatever is said next; where there is something, the
        model may think again there.
    before_content: What stands before an answer that is text.
    is_before_calls: Before calls as well.
    mark: What tells that a chat template's model thinks so, the closing tag where it is empty; None where
        that is not sure, so that it must be named.
    has_suffix: The tags end with what a model's own template says, as in `<think:opensource>`.
    """

    opening: str
    closing: str
    is_assumed: bool = False
    behind: str = ""
    before_content: str = ""
    is_before_calls: bool = False
    mark: str | None = ""
    has_suffix: bool = False

    def as_written(self, sample: str) -> ReasoningFormat | None:
        """In the tags of `sample`, a chat template or its text; None where it has none of them."""
        if self.has_suffix:
            found = re.search(f"{re.escape(self.closing[:-1])}(:[^<>{{}}\\s]+)>", sample)
            suffix = found[1] if found else ""
            opening, closing = (f"{tag[:-1]}{suffix}>" for tag in (self.opening, self.closing))
            return replace(self, opening=opening, closing=closing) if found else None
        mark = self.closing if self.mark == "" else self.mark
        return self if mark is not None and mark in sample else None

    def is_open_after(self, prompt: str) -> bool:
        """Whether the answer to `prompt` begins within a block."""
        end = prompt.rstrip(WHITESPACE)
        opening = self.opening.rstrip(WHITESPACE)
        return end.endswith(opening) or (self.is_assumed and not end.endswith(self.closing))


REASONING_FORMATS = {
    "apertus": ReasoningFormat("<|inner_prefix|>", "<|inner_suffix|>"),
    "cohere_command4": ReasoningFormat(
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        before_content="<|START_TEXT|>",
        mark="<|START_TEXT|>",
    ),
    "cohere_command3": ReasoningFormat(
        "<|START_THINKING|>", "<|END_THINKING|>", before_content="<|START_RESPONSE|>"
    ),
    "ernie45": ReasoningFormat(
        "<think>", "</think>", before_content="<response>\n", mark="<response>"
    ),
    "gemma4": ReasoningFormat("<|channel>thought\n", "<channel|>"),
    "granite": ReasoningFormat("Here is my thought process:", "Here is my response:", mark=None),
    "hunyuan_a13b": ReasoningFormat(
        "<think>", "</think>", before_content="<answer>\n", mark="</think>\n<answer>"
    ),
    "hy_v3": ReasoningFormat("<think>", "</think>", has_suffix=True),
    "inkling": ReasoningFormat(
        "<|content_thinking|>",
        "<|end_message|>",
        behind="<|message_model|>",
        before_content="<|content_text|>",
        mark="<|content_thinking|>",
    ),
    "k2_horizon": ReasoningFormat("<ifm|think>", "</ifm|think>"),
    "kimi_k3": ReasoningFormat(
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|>",
        before_content="<|open|>response<|sep|>",
        is_before_calls=True,
        mark="<|open|>think<|sep|>",
    ),
    "minimax_m3": ReasoningFormat("<mm:think>", "</mm:think>"),
    "mistral": ReasoningFormat("[THINK]", "[/THINK]"),
    "muse_glimmer": ReasoningFormat(
        " to=self<|message|>",
        "<|eom|>",
        behind="<|start|>assistant",
        before_content=" to=user<|message|>",
        mark=" to=user<|message|>",
    ),
    "openai_gptoss": ReasoningFormat(
        "<|channel|>analysis<|message|>",
        "<|end|>",
        behind="<|start|>assistant",
        before_content="<|channel|>final<|message|>",
        mark="<|channel|>analysis<|message|>",
    ),
    "solar_open": ReasoningFormat(
        "<|think|>",
        "<|end|>",
        behind="<|begin|>assistant",
        before_content="<|content|>",
        mark="<|begin|>assistant<|think|>",
    ),
    "plamo3": ReasoningFormat("<|plamo:begin_think:plamo|>", "<|plamo:end_think:plamo|>"),
    "seed_oss": ReasoningFormat("<seed:think>", "</seed:think>"),
    "qwen3": ReasoningFormat("<think>", "</think>"),
    # It would take whole answers of models that may answer without.
    "deepseek_r1": ReasoningFormat("<think>", "</think>", is_assumed=True, mark=None),
}
"""By vLLM's names of their parsers."""


class _Place(enum.Enum):
    BEFORE = "before"
    BEGIN = "begin"
    WITHIN = "within"
    BEHIND = "behind"
    CONTENT = "content"


class ReasoningParser:
    """Of one completion; what comes out does not depend on where the text is cut into pieces.

    Reasoning stands at the answer's beginning; whitespace at its ends, and behind it, is none of it.

    Attributes:
        is_ended_by_call: No tag did.
    """

    __slots__ = (
        "_beginning",
        "_calls",
        "_first",
        "_format",
        "_has_begun",
        "_held",
        "_place",
        "_tags",
        "_whitespace",
        "is_ended_by_call",
    )

    def __init__(
        self, form: ReasoningFormat, *, is_open: bool, calls: CallsInReasoning | None = None
    ) -> None:
        self._format = form
        self._calls = calls
        self._beginning: CallBeginning | None = None
        self.is_ended_by_call = False
        self._tags = (form.closing,) if calls is None else (form.closing, calls.mark)
        self._first = frozenset(tag[0] for tag in self._tags)
        self._place = _Place.BEGIN if is_open else _Place.BEFORE
        self._held: list[MarkedText] = []
        self._has_begun = False
        self._whitespace: list[str] = []

    @property
    def is_over(self) -> bool:
        """All text from here on is content."""
        return self._place is _Place.CONTENT

    @property
    def is_within(self) -> bool:
        """All text so far is reasoning or a tag of it."""
        return self._place in (_Place.WITHIN, _Place.BEHIND)

    @property
    def closing(self) -> str:
        return self._format.closing

    def is_tag(self, text: str) -> bool:
        return text in (self._format.opening, self._format.closing)

    def push(self, text: MarkedText) -> Iterable[Reasoning | MarkedText]:
        if self._is_plain(text):
            return (Reasoning(text.shown),)
        self._held.append(text)
        is_call = None if self._beginning is None else self._beginning.read(text.text)
        if self._beginning is not None and is_call is None:
            return ()
        return self._read(is_last=False, is_call=is_call)

    def flush(self) -> Iterator[Reasoning | MarkedText]:
        """The end of the completion: reasoning that was not closed is reasoning."""
        is_call = None if self._beginning is None else self._beginning.end()
        return self._read(is_last=True, is_call=is_call)

    def _read(
        self, *, is_last: bool, is_call: bool | None = None
    ) -> Iterator[Reasoning | MarkedText]:
        """`is_call` is what stands behind the mark that all that is held begins with; None where it does
        not."""
        held = joined(self._held) if self._held else MarkedText()
        if self._place in (_Place.BEFORE, _Place.BEGIN):
            begin = len(held.text) - len(held.text.lstrip(WHITESPACE))
            opening, closing = self._format.opening, self._format.closing
            tags = (opening, closing) if self._place is _Place.BEFORE else (opening,)
            if held.text.startswith(opening, begin):
                held = held[begin + len(opening) :]
                self._place = _Place.WITHIN
            elif not is_last and any(tag.startswith(held.text[begin:]) for tag in tags):
                self._held = [held]
                return
            elif self._place is _Place.BEFORE:
                # Some models say with the closing tag that they did not think.
                is_closed = held.text.startswith(closing, begin)
                held = held[begin + len(closing) :] if is_closed else held
                self._place = _Place.BEHIND if is_closed else _Place.CONTENT
            else:
                self._place = _Place.WITHIN
        if self._place is _Place.WITHIN:
            held = yield from self._within(held, is_last=is_last, is_call=is_call)
        if self._place is _Place.BEHIND:
            held = held[len(held.text) - len(held.text.lstrip(WHITESPACE)) :]
            if held.text:
                self._place = _Place.CONTENT
        if self._place is _Place.CONTENT and held.text:
            yield held
            held = MarkedText()
        self._held = [held] if held.text else []

    def _is_plain(self, text: MarkedText) -> bool:
        """Reasoning and nothing else, whatever comes behind it."""
        return (
            self._has_begun
            and self._place is _Place.WITHIN
            and not self._held
            and not self._whitespace
            and self._first.isdisjoint(text.text)
            and text.shown[-1:] not in WHITESPACE  # nor is it empty
        )

    def _within(
        self, held: MarkedText, *, is_last: bool, is_call: bool | None
    ) -> Generator[Reasoning, None, MarkedText]:
        """Returns what is left."""
        end, behind = self._end(held.text, is_last=is_last, is_call=is_call)
        text = held[:end].shown
        if not self._has_begun:
            text = text.lstrip(WHITESPACE)
        shown = text.rstrip(WHITESPACE)
        if shown:
            self._has_begun = True
            yield Reasoning("".join([*self._whitespace, shown]))
            self._whitespace.clear()
        if behind_it := text[len(shown) :]:
            self._whitespace.append(behind_it)
        return held[behind:]

    def _end(self, raw: str, *, is_last: bool, is_call: bool | None) -> tuple[int, int]:
        """Where reasoning ends in `raw`, as far as that is known, and where what is left begins."""
        begin = 0
        while (found := any_of(self._tags).search(raw, begin)) is not None:
            if found.group() == self._format.closing:
                self._place = _Place.BEHIND
                return found.span()
            begin = found.end()
            if is_call is None:
                is_call = self._is_call(raw, begin, is_last=is_last)
            if is_call is not False:
                if is_call:
                    self._place, self.is_ended_by_call = _Place.CONTENT, True
                return found.start(), found.start()
            self._beginning = is_call = None
        end = len(raw) if is_last else held_back(raw, begin, self._tags)
        return end, end

    def _is_call(self, raw: str, begin: int, *, is_last: bool) -> bool | None:
        if self._calls is None:
            return False
        self._beginning = self._calls.begin()
        is_call = self._beginning.read(raw, begin)
        return self._beginning.end() if is_call is None and is_last else is_call
