"""Answers of a model, read into content, reasoning and calls: the parts of one parser put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec

from octavo.engine.requests.marked_text import MarkedText
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.server.openai.parsing.calls_in_reasoning import CallsInReasoning
from octavo.server.openai.parsing.formats import CallFormat, Tools
from octavo.server.openai.parsing.pieces import Piece, Reasoning
from octavo.server.openai.parsing.reasoning import ReasoningFormat, ReasoningParser
from octavo.server.openai.parsing.reasoning_tokens import ReasoningTokens
from octavo.server.openai.parsing.tool_calls import ToolCallParser
from octavo.structured_outputs import ReasoningTags, StructuredOutputsParams


@dataclass(frozen=True, slots=True)
class Markup:
    """What a model writes into its answers; None where nothing of the kind is read.

    Args:
        calls_name, reasoning_name: What the log calls them.
        channels: `calls`, or in its place what reads the heads that stand around content.
    """

    calls_name: str = "none"
    calls: CallFormat | None = None
    reasoning_name: str = "none"
    reasoning: ReasoningFormat | None = None
    channels: CallFormat | None = None

    def begin_of_answer(self, prompt: str, said: str | None) -> str:
        """What the other methods are asked with: its end tells whether the answer begins within reasoning.

        Args:
            said: Of a message that goes on; there it is the last tag, not the end, that tells it.
        """
        form = self.reasoning
        if form is None or said is None:
            return prompt
        is_open = said.rfind(form.opening) > said.rfind(form.closing)
        return form.opening if is_open else form.closing

    def reasoning_tokens(
        self, prompt: str, vocabulary: Vocabulary, tools: Tools, *, is_held: bool = False
    ) -> Callable[[], ReasoningTokens] | None:
        """Counters of completions of `prompt`; None where nothing is to be counted. The rest as `parser` has
        it."""
        form = self.reasoning
        if form is None:
            return None
        is_open = form.is_open_after(prompt)
        calls = self._in_reasoning(tools, is_held=is_held)
        return lambda: ReasoningTokens(form, vocabulary, is_open=is_open, calls=calls)

    def _in_reasoning(self, tools: Tools, *, is_held: bool) -> CallsInReasoning | None:
        """Calls that end reasoning. What holds an answer to a grammar does so behind the closing tag."""
        form = self.calls
        is_read = form is not None and form.ends_reasoning and tools and not is_held
        return CallsInReasoning(form, tools) if form is not None and is_read else None

    def behind_reasoning(
        self, wanted: StructuredOutputsParams | None, prompt: str
    ) -> StructuredOutputsParams | None:
        """What an answer to `prompt` must be, once the model has thought."""
        form = self.reasoning
        if wanted is None or form is None:
            return wanted
        # A grammar with schemas is of calls, and says itself what its content begins with.
        is_before = form.is_before_calls or wanted.schemas is None
        is_written = prompt.endswith(form.before_content)
        content = form.before_content if is_before and not is_written else ""
        is_open = form.is_open_after(prompt)
        tags = ReasoningTags(form.opening, form.closing, is_open, form.behind, content)
        return msgspec.structs.replace(wanted, reasoning=tags)

    def parser(
        self,
        prompt: str,
        tools: Tools,
        max_calls: int | None = None,
        *,
        known_ids: Iterable[str] = (),
        tells_reasoning: bool = True,
        is_held: bool = False,
    ) -> AnswerParser | None:
        """For one answer to `prompt`; None where all of it is content.

        Args:
            tools: Those that may be called.
            known_ids: Of the conversation's calls.
            tells_reasoning: Else it is left out.
            is_held: The answer keeps to a grammar.
        """
        form = self.channels or self.calls
        callable_tools = tools if self.calls else {}
        calls = None
        if form and (callable_tools or form.heads or form.reads_reasoning):
            calls = ToolCallParser(form, callable_tools, max_calls, known_ids)
        thoughts = None
        if self.reasoning and not (form and form.reads_reasoning):
            is_open = self.reasoning.is_open_after(prompt)
            within = self._in_reasoning(tools, is_held=is_held)
            thoughts = ReasoningParser(self.reasoning, is_open=is_open, calls=within)
        if thoughts is None and calls is None:
            return None
        return AnswerParser(thoughts, calls, tells_reasoning=tells_reasoning)


class AnswerParser:
    """Of one completion. What comes out does not depend on where the text is cut into pieces."""

    __slots__ = ("_calls", "_reasoning", "_tells_reasoning")

    def __init__(
        self,
        reasoning: ReasoningParser | None,
        calls: ToolCallParser | None,
        *,
        tells_reasoning: bool = True,
    ) -> None:
        self._reasoning = reasoning
        self._tells_reasoning = tells_reasoning
        self._calls = calls

    @property
    def num_calls(self) -> int:
        """So far."""
        return 0 if self._calls is None else self._calls.num_calls

    @property
    def is_in_reasoning(self) -> bool:
        """All text so far is reasoning or a tag of it."""
        return self._reasoning is not None and self._reasoning.is_within

    def is_reasoning_tag(self, token: str) -> bool:
        """Of a token where the answer is in reasoning, or just behind it."""
        return (
            self.is_in_reasoning and self._reasoning is not None and self._reasoning.is_tag(token)
        )

    def push(self, text: MarkedText) -> Iterable[Piece]:
        """In the model's order. Holds back what may become markup."""
        if self._reasoning is None:
            if self._calls is None or not self._tells_reasoning:
                return self._content(text)
            return self._calls.push(text)
        found: list[Piece] = []
        for piece in self._reasoning.push(text):
            if isinstance(piece, Reasoning):
                if self._tells_reasoning:
                    found.append(piece)
            else:
                self._leave_out_closing()
                found += self._content(piece)
        if self._reasoning.is_over:
            self._reasoning = None
        return found

    def flush(self, *, is_cut: bool = False) -> Iterator[Piece]:
        """The end of the completion, by itself or because it was cut off."""
        if self._reasoning is not None:
            for piece in self._reasoning.flush():
                if isinstance(piece, Reasoning):
                    if self._tells_reasoning:
                        yield piece
                else:
                    self._leave_out_closing()
                    yield from self._content(piece)
        if self._calls is not None:
            yield from self._told(self._calls.flush(is_cut=is_cut))

    def _leave_out_closing(self) -> None:
        """Of thoughts that a call ended, it may come yet."""
        thoughts, calls = self._reasoning, self._calls
        if thoughts is not None and calls is not None and thoughts.is_ended_by_call:
            calls.leave_out(thoughts.closing)

    def _content(self, text: MarkedText) -> Iterable[Piece]:
        if self._calls is None:
            return (shown,) if (shown := text.shown) else ()
        return self._told(self._calls.push(text))

    def _told(self, pieces: Iterable[Piece]) -> Iterable[Piece]:
        if self._tells_reasoning:
            return pieces
        return [piece for piece in pieces if not isinstance(piece, Reasoning)]
