from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from octavo.beam_search import BeamSearch, BeamSearchParams
from octavo.errors import InvalidParameterError

EOS = 9


def search(
    tree: Mapping[tuple[int, ...], Mapping[int, float]], params: BeamSearchParams, room: int = 100
) -> BeamSearch:
    """Runs to the end over log-probabilities that are given for every prefix."""
    beams = BeamSearch(params, [EOS], room)
    while not beams.is_done:
        beams.advance([tree[beam.token_ids] for beam in beams.live])
    return beams


def test_a_wide_beam_finds_the_best_of_all_completions() -> None:
    logprobs = {
        prefix: {token: -(((sum(prefix) + 3) * (token + 2) * 7) % 11) / 4 for token in range(3)}
        for length in range(3)
        for prefix in itertools.product(range(3), repeat=length)
    }
    found = search(logprobs, BeamSearchParams(beam_width=9, max_tokens=3)).best

    def total(tokens: tuple[int, ...]) -> float:
        return sum(logprobs[tokens[:i]][token] for i, token in enumerate(tokens))

    best = max(itertools.product(range(3), repeat=3), key=total)
    assert total(found[0].token_ids) == pytest.approx(total(best))
    assert found[0].logprob == pytest.approx(total(best))


def test_an_improbable_start_may_win() -> None:
    tree = {(): {1: -0.5, 2: -0.9}, (1,): {3: -2.0}, (2,): {4: -0.1}}
    params = BeamSearchParams(beam_width=2, max_tokens=2)
    assert search(tree, params).best[0].token_ids == (2, 4)
    assert search(tree, BeamSearchParams(beam_width=1, max_tokens=2)).best[0].token_ids == (1, 3)


def test_the_length_penalty_decides_between_short_and_long() -> None:
    tree = {(): {EOS: -1.0, 1: -1.2}, (1,): {EOS: -0.2, 2: -9.0}, (1, 2): {3: -9.0}}
    short = BeamSearchParams(beam_width=2, max_tokens=3, length_penalty=0.0)
    assert search(tree, short).best[0].token_ids == (EOS,)
    long = BeamSearchParams(beam_width=2, max_tokens=3, length_penalty=1.0)
    assert search(tree, long).best[0].token_ids == (1, EOS)


def test_the_context_ends_the_search() -> None:
    tree = {(): {1: -0.1}, (1,): {1: -0.1}}
    assert search(tree, BeamSearchParams(beam_width=1, max_tokens=50), room=2).best[
        0
    ].token_ids == (
        1,
        1,
    )


@pytest.mark.parametrize("fields", [{"beam_width": 0}, {"beam_width": 11}, {"max_tokens": 0}])
def test_a_value_out_of_range_is_named(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(InvalidParameterError, match=f"{name} is {fields[name]}"):
        BeamSearchParams(**fields)
