"""A minimum length: nothing ends before it, everything may behind it; the same on host and device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, SamplingParams
from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.checkpoints import VOCAB
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import make_executor, run_to_end

ENDS = tuple(range(3, VOCAB, 4))  # a quarter of all tokens
MINIMA = [0, 1, 2, 7, 30]


def generate(executor: Any, folder: Path) -> dict[str, list[int]]:
    config = EngineConfig(model=str(folder), max_num_seqs=8, max_num_batched_tokens=48)
    core = EngineCore(config, executor, is_debugging=True)
    for seed in range(4):
        for minimum in MINIMA:
            params = SamplingParams(
                seed=seed, temperature=2.0, min_tokens=minimum, max_tokens=40, stop_token_ids=[4]
            )
            name = f"{minimum} {seed}"
            core.add(AddRequest(name, [5, 6, 7] * 5, params, end_token_ids=ENDS))
    return run_to_end(core)


def test_no_end_is_drawn_before_the_minimum_and_one_is_behind_it(llama: Path) -> None:
    outputs = generate(make_executor(llama), llama)
    for name, tokens in outputs.items():
        minimum = int(name.split()[0])
        assert len(tokens) >= max(1, minimum)
        assert not set(tokens[:minimum]) & {4, *ENDS}
    ended = [name for name, tokens in outputs.items() if tokens[-1] in (4, *ENDS)]
    assert {name.split()[0] for name in ended} >= {"0", "1", "2", "7"}
    assert generate(make_gpu_executor(llama, max_num_seqs=8), llama) == outputs
    assert generate(make_gpu_executor(llama, max_num_seqs=8, num_blocks=12), llama) == outputs


def test_a_stop_string_counts_behind_the_minimum() -> None:
    prompt = "What is Octavo? "
    with LLM("builtin://demo", kv_cache_memory="64Mi") as llm:
        plain = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
        text = llm.generate([prompt], plain)[0].outputs[0].text
        stop = max("aeiou", key=text.rfind)  # also behind the minima
        for minimum in (0, 2, 5):
            params = SamplingParams(
                temperature=0, max_tokens=40, ignore_eos=True, min_tokens=minimum, stop=stop
            )
            (answer,) = llm.generate([prompt], params)[0].outputs
            assert len(answer.token_ids) > minimum
            assert text.startswith(answer.text)
            assert text[len(answer.text) :].startswith(stop)


@pytest.mark.parametrize("options", [{"min_tokens": 17}, {"min_tokens": -1}, {"min_tokens": True}])
def test_what_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError, match="min_tokens"):
        SamplingParams(**options)


def test_a_grammar_says_itself_when_it_ends(llama: Path) -> None:
    core = EngineCore(EngineConfig(model=str(llama)), make_executor(llama))
    outputs = StructuredOutputsParams(regex="a+", parameter="response_format")
    params = SamplingParams(min_tokens=3, structured_outputs=outputs)
    with pytest.raises(InvalidParameterError, match="together with response_format"):
        core.add(AddRequest("a", [5], params, end_token_ids=(1,)))


@pytest.mark.parametrize(
    ("options", "is_refused"),
    [
        ({"allowed_token_ids": list(ENDS[:3])}, True),
        ({"allowed_token_ids": [*ENDS[:3], 4], "stop_token_ids": [4]}, True),
        ({"stop_token_ids": list(range(VOCAB))}, True),
        ({"allowed_token_ids": [4], "stop_token_ids": [4], "ignore_eos": True}, True),
        ({"allowed_token_ids": [*ENDS[:3], 4]}, False),
        ({"allowed_token_ids": list(ENDS[:3]), "ignore_eos": True}, False),
        ({"allowed_token_ids": list(ENDS[:3]), "min_tokens": 0}, False),
    ],
    ids=str,
)
def test_a_minimum_that_leaves_no_token_is_refused(
    llama: Path, options: dict[str, Any], is_refused: bool
) -> None:
    """Tokens that nobody allowed were drawn."""
    core = EngineCore(EngineConfig(model=str(llama)), make_executor(llama), is_debugging=True)
    params = SamplingParams(**{"min_tokens": 3, "max_tokens": 5, **options})
    request = AddRequest("a", [5, 6], params, end_token_ids=ENDS)
    if is_refused:
        with pytest.raises(InvalidParameterError, match="all tokens that may be drawn end"):
            core.add(request)
        return
    core.add(request)
    (tokens,) = run_to_end(core).values()
    assert {*tokens} <= {*options["allowed_token_ids"]}
