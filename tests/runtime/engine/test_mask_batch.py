"""Masks that are worked out together are those of each row alone, whatever was guessed and whoever fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from llguidance import LLMatcher, LLParserLimits

from octavo.engine.grammars import GrammarCompiler, mask_batch
from octavo.engine.grammars.form import whole_grammar
from octavo.engine.grammars.limits import LIMITS
from octavo.engine.grammars.mask_batch import MaskBatch
from octavo.engine.grammars.progress import GrammarProgress
from octavo.sampling.host import sampler
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.demo_grammars import BYTES, COMPILER, END, TOKENIZER, allowed

VOCAB = len(BYTES)
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string", "maxLength": 9}},
    "required": ["a"],
}
KINDS: list[dict[str, Any]] = [
    {"json": SCHEMA},
    {"json_object": True},
    {"regex": "(ab|cd){2,40}"},
    {"grammar": 'start: "(" start ")" | "x"'},
]


def alone(outputs: StructuredOutputsParams, token_ids: Sequence[int]) -> list[int] | None:
    """What a matcher of its own lets follow; None behind what it forbids."""
    matcher = LLMatcher(
        COMPILER._table((END,)), whole_grammar(outputs, {}).text, log_level=0, limits=LIMITS
    )
    for token_id in token_ids:
        if matcher.try_consume_tokens([token_id]) != 1:
            return None
    return allowed(np.frombuffer(matcher.compute_bitmask(), dtype=np.int32))


def state_of(progress: GrammarProgress, output: list[int], guesses: Sequence[int]) -> SamplingState:
    return SamplingState(
        SamplingParams(), None, [], output, grammar=progress, guesses=tuple(guesses)
    )


@pytest.mark.parametrize("takes_threads", [False, True])
def test_masks_of_a_batch_are_those_of_each_row_alone(
    takes_threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of shared and of other grammars, at different places, with guesses that are right, wrong or
    forbidden, or without; some of the masks are asked for again, as where a draft came true."""
    if takes_threads:
        monkeypatch.setattr(mask_batch, "WORTH_A_THREAD", 0)
    numbers = np.random.default_rng(takes_threads)
    kinds = [StructuredOutputsParams(**KINDS[number % len(KINDS)]) for number in range(9)]
    rows = [(kind, COMPILER.prepare(kind, [END]).start(), list[int]()) for kind in kinds]
    compared = 0
    for _ in range(14):
        states = []
        for _, progress, output in rows:
            right = list[int]()
            while len(right) < int(numbers.integers(0, 4)):
                right.append(int(numbers.choice(allowed(progress.next_mask(output, right)))))
            if right and numbers.random() < 0.3:
                right[-1] = int(numbers.integers(VOCAB))
            states += [
                state_of(progress, output, right[:count])
                for count in range(len(right) + 1)
                if numbers.random() < 0.9
            ]
        assert isinstance(states[0].grammar, GrammarProgress)
        states[0].grammar.source.prepare(states)
        for kind, progress, output in rows:
            for state in states:
                if state.grammar is progress:
                    expected = alone(kind, [*output, *state.guesses])
                    found = allowed(progress.next_mask(output, state.guesses))
                    assert found == ([END] if expected is None else expected)
                    compared += 1
            if END not in output:
                longest = max(
                    (s.guesses for s in states if s.grammar is progress), key=len, default=()
                )
                output += [
                    guess
                    for place, guess in enumerate(longest)
                    if alone(kind, [*output, *longest[: place + 1]]) is not None
                ][: int(numbers.integers(0, 4))]
                if END not in output:
                    output.append(int(numbers.choice(allowed(progress.next_mask(output)))))
    assert compared > 200


def test_known_masks_are_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = COMPILER.prepare(StructuredOutputsParams(**KINDS[0]), [END]).start()
    output: list[int] = []
    guess = allowed(progress.next_mask(output))[0]
    progress.source.prepare([state_of(progress, output, ()), state_of(progress, output, (guess,))])
    monkeypatch.setattr(GrammarProgress, "take", None)  # nothing can be taken in any more
    assert allowed(progress.next_mask(output))
    behind = allowed(progress.next_mask(output, (guess,)))
    output.append(guess)
    assert allowed(progress.next_mask(output)) == behind
    MaskBatch(VOCAB).prepare([state_of(progress, output, ())])


def test_a_lexer_that_breaks_ends_whoever_broke_it_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Completions of a grammar share its lexer, which may hold so many states; a fault of the library breaks
    it likewise. The next request gets another."""
    limits = LLParserLimits(max_lexer_states=60, verbose_errors=False)
    monkeypatch.setattr("octavo.engine.grammars.compiler.LIMITS", limits)
    compiler = GrammarCompiler(lambda: TOKENIZER, VOCAB)
    outputs = StructuredOutputsParams(regex="[a-y]{1,2000}z")
    compiled = compiler.prepare(outputs, [END])
    breaking, going, other = (compiled.start() for _ in range(3))
    letter = TOKENIZER.encode("b", add_special_tokens=False)[-1]
    told = {going: [letter] * 3, other: [letter] * 2}
    before = {one: allowed(one.next_mask(output)) for one, output in told.items()}
    written: list[int] = []
    while breaking.error is None:
        breaking.next_mask(written)
        written.append(letter)
        assert len(written) < 2000
    assert len(written) > 5
    for output in told.values():
        output.append(letter)
    going.source.prepare([state_of(one, output, ()) for one, output in told.items()])
    for one, output in told.items():
        assert allowed(one.next_mask(output)) == before[one]
        assert one.error is None
    assert allowed(breaking.next_mask(written)) == [END]
    assert not compiler.is_ready(outputs, [END])
    assert compiler.prepare(outputs, [END]) is not compiled


def test_rows_that_are_sampled_one_by_one_have_their_masks_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As those of a large vocabulary are, on a CPU."""
    filled: list[int] = []
    fill = MaskBatch._fill

    def counted(self: MaskBatch, matchers: list[LLMatcher], *rest: Any) -> None:
        filled.append(len(matchers))
        fill(self, matchers, *rest)

    monkeypatch.setattr(MaskBatch, "_fill", counted)
    wanted = [StructuredOutputsParams(**kind) for kind in KINDS]
    logits = torch.zeros(len(wanted) + 1, VOCAB)
    drawn: list[list[int]] = []
    for at_once in (VOCAB * 8, 1):
        monkeypatch.setattr(sampler, "_SCORES_AT_ONCE", at_once)
        states = [
            SamplingState(
                SamplingParams(seed=3, structured_outputs=one),
                3,
                [],
                [],
                grammar=COMPILER.prepare(one, [END]).start(),
            )
            for one in wanted
        ]
        states.insert(1, SamplingState(SamplingParams(seed=3), 3, [], []))
        sampled = sampler.Sampler(0).sample(logits, list(range(len(states))), states)
        drawn.append([one.token_id for one in sampled])
    assert filled == [len(wanted)] * 2
    assert drawn[0] == drawn[1]
