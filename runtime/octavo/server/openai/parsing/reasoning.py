"""Reasoning in a model's text: what it thinks before it answers, between tags such as `<think>`.

Some templates open the block in the prompt, so that the answer begins within it; others leave it to the
model, and close an empty one in the prompt where it shall not think.
"""

from __future__ import annotations

import enum
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.server.openai.parsing.pieces import WHITESPACE, Reasoning, held_back


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """Args:
    is_assumed: An answer begins with reasoning even where neither the prompt nor the model opens it.
    behind: What stands between the closing tag and whatever is said next; where there is something, the
        model may think again there.
    before_content: What stands before an answer that is text.
    """

    opening: str
    closing: str
    is_assumed: bool = False
    behind: str = ""
    before_content: str = ""

    def is_open_after(self, prompt: str) -> bool:
        """Whether the answer to `prompt` begins within a block."""
        end = prompt.rstrip(WHITESPACE)
        opening = self.opening.rstrip(WHITESPACE)
        return end.endswith(opening) or (self.is_assumed and not end.endswith(self.closing))


REASONING_FORMATS = {
    "deepseek_r1": ReasoningFormat("<think>", "</think>", is_assumed=True),
    "qwen3": ReasoningFormat("<think>", "</think>"),
    "mistral": ReasoningFormat("[THINK]", "[/THINK]"),
    "seed_oss": ReasoningFormat("<seed:think>", "</seed:think>"),
    "gemma4": ReasoningFormat("<|channel>thought\n", "<channel|>"),
    "granite": ReasoningFormat("Here is my thought process:", "Here is my response:"),
    "openai_gptoss": ReasoningFormat(
        "<|channel|>analysis<|message|>",
        "<|end|>",
        behind="<|start|>assistant",
        before_content="<|channel|>final<|message|>",
    ),
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
    """

    __slots__ = ("_format", "_has_begun", "_held", "_place", "_whitespace")

    def __init__(self, form: ReasoningFormat, *, is_open: bool) -> None:
        self._format = form
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

    def is_tag(self, text: str) -> bool:
        return text in (self._format.opening, self._format.closing)

    def push(self, text: MarkedText) -> Iterable[Reasoning | MarkedText]:
        if self._is_plain(text):
            return (Reasoning(text.shown),)
        self._held.append(text)
        return self._read(is_last=False)

    def flush(self) -> Iterator[Reasoning | MarkedText]:
        """The end of the completion: reasoning that was not closed is reasoning."""
        return self._read(is_last=True)

    def _read(self, *, is_last: bool) -> Iterator[Reasoning | MarkedText]:
        held = joined(self._held) if self._held else MarkedText()
        if self._place in (_Place.BEFORE, _Place.BEGIN):
            begin = len(held.text) - len(held.text.lstrip(WHITESPACE))
            opening = self._format.opening
            if held.text.startswith(opening, begin):
                held = held[begin + len(opening) :]
                self._place = _Place.WITHIN
            elif not is_last and opening.startswith(held.text[begin:]):
                self._held = [held]
                return
            elif self._place is _Place.BEFORE:
                self._place = _Place.CONTENT
            else:
                self._place = _Place.WITHIN
        if self._place is _Place.WITHIN:
            held = yield from self._within(held, is_last=is_last)
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
            and self._format.closing[0] not in text.text
            and text.shown[-1:] not in WHITESPACE  # nor is it empty
        )

    def _within(self, held: MarkedText, *, is_last: bool) -> Generator[Reasoning, None, MarkedText]:
        """Returns what is left."""
        raw, closing = held.text, self._format.closing
        end = raw.find(closing)
        behind = end + len(closing)
        if end >= 0:
            self._place = _Place.BEHIND
        else:
            end = behind = len(raw) if is_last else held_back(raw, 0, (closing,))
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
