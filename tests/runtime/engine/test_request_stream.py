"""What piles up reads as what came one by one."""

from __future__ import annotations

import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.engine.messages import TokenLogprobs, TokenOutput
from octavo.engine.requests.output_processor import RequestState
from octavo.engine.requests.request_stream import merged
from octavo.outputs import FinishReason, RequestOutput
from octavo.sampling_params import SamplingParams
from tests.support.runtime.tokenizers_for_tests import byte_level_tokenizer

TOKENIZER = byte_level_tokenizer()
LAST = (FinishReason.LENGTH, FinishReason.STOP, FinishReason.ERROR)


@given(
    texts=st.lists(st.text("abQ é€🙂<", min_size=1, max_size=8), min_size=1, max_size=3),
    cuts=st.sets(st.integers(0, 60)),
    stop=st.sampled_from([None, "Q", "b<"]),
    logprobs=st.sampled_from([None, 1]),
    reasons=st.lists(st.sampled_from(LAST), min_size=3, max_size=3),
)
@settings(deadline=None)
def test_an_answer_does_not_depend_on_how_many_outputs_came_at_once(
    texts: list[str],
    cuts: set[int],
    stop: str | None,
    logprobs: int | None,
    reasons: list[FinishReason],
) -> None:
    outputs = _outputs(texts, reasons, has_logprobs=logprobs is not None)
    sampling = SamplingParams(n=len(texts), stop=stop, logprobs=logprobs)

    def read(pieces: list[list[TokenOutput]]) -> tuple[RequestOutput, list[str]]:
        state = RequestState("r", "", [], sampling, TOKENIZER)
        streamed = [""] * len(texts)
        for piece in pieces:
            for output in merged(piece):
                delta = state.apply(output)
                if delta is not None:
                    streamed[delta.index] += delta.text
        return state.to_request_output(), streamed

    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(outputs)), len(outputs)]
    pieces = [outputs[begin:end] for begin, end in itertools.pairwise(places)]
    one_by_one = read([[output] for output in outputs])
    assert read(pieces) == one_by_one
    whole, streamed = one_by_one
    assert [output.text for output in whole.outputs] == streamed


def test_an_error_behind_tokens_keeps_what_it_tells() -> None:
    lost = TokenOutput("r", 0, [], FinishReason.ERROR, error="NaN", fails_again=True)
    assert merged([TokenOutput("r", 0, [1]), lost]) == [
        TokenOutput("r", 0, [1], FinishReason.ERROR, error="NaN", fails_again=True)
    ]


def test_a_completion_keeps_what_its_first_output_and_its_last_one_tell() -> None:
    first = TokenOutput("r", 0, [1], num_cached_tokens=3, first_scheduled_time=5.0)
    last = TokenOutput("r", 0, [2], finish_reason=FinishReason.STOP, stop_reason=2)
    assert merged([first, TokenOutput("r", 1, [7]), last]) == [
        TokenOutput(
            "r",
            0,
            [1, 2],
            finish_reason=FinishReason.STOP,
            stop_reason=2,
            num_cached_tokens=3,
            first_scheduled_time=5.0,
        ),
        TokenOutput("r", 1, [7]),
    ]


def _outputs(
    texts: list[str], reasons: list[FinishReason], *, has_logprobs: bool
) -> list[TokenOutput]:
    """Of all completions in turn, a token each."""
    tokens = [TOKENIZER.encode(text).ids for text in texts]
    outputs = []
    for place in range(max(map(len, tokens))):
        for index, ids in enumerate(tokens):
            if place < len(ids):
                scores = TokenLogprobs([ids[place]], [math.log(0.5)], [1])
                outputs.append(
                    TokenOutput(
                        "r",
                        index,
                        [ids[place]],
                        finish_reason=reasons[index] if place == len(ids) - 1 else None,
                        logprobs=[scores] if has_logprobs else None,
                    )
                )
    return outputs


def test_guesses_of_outputs_that_piled_up_are_summed() -> None:
    pieces = [TokenOutput("r", 0, [1]), TokenOutput("r", 0, [2, 3, 4], num_accepted=2)]
    (joined,) = merged([*pieces, TokenOutput("r", 0, [5, 6], num_accepted=1)])
    assert (joined.new_token_ids, joined.num_accepted) == ([1, 2, 3, 4, 5, 6], 3)
