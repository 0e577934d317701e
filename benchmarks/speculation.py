"""`python -m benchmarks.speculation`: what speculative decoding gains and costs, pairs in one process.

Two engines of the same model, one with n-gram guesses, take the same requests in turns: text that does not
copy at 1, 8 and 32 requests, and an answer that copies. The demo model gives the latter itself. The Qwen3
shape has random weights and copies nothing: an answer is written for it, its prompt with an edit every dozen
tokens, so that its figure says what a copy of that kind could gain at most, and nothing of any model's text.

`--model draft`: the demo model as its own draft, which is always right and never pays, since it takes as
long as the model; `--model head`: an EAGLE-3 head of random weights for the Qwen3 shape, which is never
right. Both say what guessing costs where it gains nothing.

On a GPU the same runs, but for the written answer, which is of CPUs alone.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from benchmarks.cpu.models import qwen3_0_6b
from octavo import LLM, SamplingParams
from octavo.sampling import processors
from octavo.sampling.arrays import Floats
from octavo.sampling.processors.base import HostProcessor
from octavo.sampling.processors.logit_bias import LogitBias
from octavo.sampling.state import SamplingState

CONFIG = {"method": "ngram", "num_speculative_tokens": 8}
_RANDOM = random.Random(5)
EDITED = [_RANDOM.randrange(300, 1200) for _ in range(192)]
SCRIPT = [_RANDOM.randrange(300, 1200) if i % 12 == 11 else t for i, t in enumerate(EDITED)]
_SCRIPTED = {0: 1.0}
_QWEN3 = {
    "max_model_len": 1024,
    "max_num_seqs": 32,
    "kv_cache_memory": "600Mi",
    "load_format": "dummy",
}
_DEMO = {"kv_cache_memory": "256Mi"}  # of a GPU each would take nearly all
PASSAGE = "replicas: 2, gpu: 1, memory: 16Gi, port: 8000, model: demo, cache: 50Gi, queue: 4; "


class Scripted(LogitBias, HostProcessor):
    """Stands for `logit_bias`: a request with this one gets the script."""

    def __init__(self, state: SamplingState | None = None) -> None:
        self._state = state

    def on_host(self, state: SamplingState) -> HostProcessor:
        return Scripted(state) if state.params.logit_bias == _SCRIPTED else super().on_host(state)

    def shape(self, scores: Floats) -> None:
        assert self._state is not None
        scores[SCRIPT[len(self._state.output_token_ids)]] += 1e4


def seconds(
    llm: LLM, prompts: list[str] | list[list[int]], params: SamplingParams
) -> tuple[float, float]:
    """By the clock, and of the process's CPU time, which others' work disturbs less."""
    started, used = time.perf_counter(), time.process_time()
    llm.generate(prompts, params)
    return time.perf_counter() - started, time.process_time() - used


def steps(llm: LLM) -> tuple[int, ...]:
    """Steps, tokens, steps of a sequence with guesses, and guesses that came true by their place."""
    stats = llm.stats
    accepted = stats.spec_decode_accepted_tokens_per_position
    return stats.step, stats.generation_tokens_total, stats.spec_decode_drafts_total, *accepted


def compare(
    name: str,
    engines: tuple[LLM, LLM],
    prompts: list[str] | list[list[int]],
    params: SamplingParams,
    pairs: int,
    num_running: int | None = None,
) -> None:
    """Prints the time without guesses divided by that with them: median and range of the pairs, and of all
    together, in which a rare try has its weight; by the clock and of CPU time.

    Args:
        num_running: Requests that run at once; None: all of them.
    """
    plain, guessing = engines
    seconds(plain, prompts, params)
    seconds(guessing, prompts, params)
    before = steps(guessing)
    ratios: list[tuple[float, float]] = []
    sums = [0.0] * 4
    for pair in range(pairs):
        first, second = (plain, guessing) if pair % 2 else (guessing, plain)
        times = {id(one): seconds(one, prompts, params) for one in (first, second)}
        clock, used = zip(times[id(plain)], times[id(guessing)], strict=True)
        ratios.append((clock[0] / clock[1], used[0] / used[1]))
        sums = [one + more for one, more in zip(sums, (*clock, *used), strict=True)]
    ran, made, guessed, *accepted = (b - a for a, b in zip(before, steps(guessing), strict=True))
    places = ", ".join(f"{each / max(guessed, 1):.0%}" for each in accepted)
    shown = [
        f"{statistics.median(each):.3f} ({min(each):.3f}-{max(each):.3f})"
        for each in zip(*ratios, strict=True)
    ]
    print(
        f"{name}: {shown[0]}, CPU time {shown[1]}, together {sums[0] / sums[1]:.3f} and "
        f"{sums[2] / sums[3]:.3f}, "
        f"{made / ran / (num_running or len(prompts)):.2f} tokens a step and request, "
        f"{sum(accepted) / made:.1%} of them guessed, true of {guessed} by place: {places}",
        flush=True,
    )


def demo(pairs: int, counts: Sequence[int]) -> None:
    with (
        LLM("builtin://demo", **_DEMO) as plain,  # type: ignore[arg-type]
        LLM("builtin://demo", **_DEMO, speculative_config=CONFIG) as guessing,  # type: ignore[arg-type]
    ):
        engines = plain, guessing
        greedy = SamplingParams(temperature=0.0, max_tokens=256, ignore_eos=True)
        compare("demo, copies, 1", engines, [PASSAGE * 6], greedy, pairs)
        drawn = SamplingParams(temperature=1.0, seed=1, max_tokens=96, ignore_eos=True)
        for count in counts:
            questions = [[_RANDOM.randrange(300, 1200) for _ in range(32)] for _ in range(count)]
            compare(f"demo, does not copy, {count}", engines, questions, drawn, pairs)


def qwen3(pairs: int, counts: Sequence[int], work: Path) -> None:
    folder = str(qwen3_0_6b(work).folder)
    with (
        LLM(folder, **_QWEN3) as plain,  # type: ignore[arg-type]
        LLM(folder, **_QWEN3, speculative_config=CONFIG) as guessing,  # type: ignore[arg-type]
    ):
        params = SamplingParams(temperature=0.0, max_tokens=96, logit_bias=_SCRIPTED)
        params_drawn = SamplingParams(temperature=1.0, seed=1, max_tokens=32, ignore_eos=True)
        compare(
            "qwen3 shape, an answer written for it (a bound), 1",
            (plain, guessing),
            [EDITED],
            params,
            pairs,
        )
        for count in counts:
            questions = [[_RANDOM.randrange(300, 1200) for _ in range(32)] for _ in range(count)]
            name = f"qwen3 shape, does not copy, {count}"
            compare(name, (plain, guessing), questions, params_drawn, pairs)


def draft(pairs: int, counts: Sequence[int]) -> None:
    config = {"method": "draft_model", "model": "builtin://demo"}
    with (
        LLM("builtin://demo", **_DEMO) as plain,  # type: ignore[arg-type]
        LLM("builtin://demo", **_DEMO, speculative_config=config) as guessing,  # type: ignore[arg-type]
    ):
        params = SamplingParams(temperature=1.0, seed=1, max_tokens=96, ignore_eos=True)
        for count in counts:
            questions = [[_RANDOM.randrange(300, 1200) for _ in range(32)] for _ in range(count)]
            name = f"demo, its own draft model, {count}"
            compare(name, (plain, guessing), questions, params, pairs)


def head(pairs: int, counts: Sequence[int], work: Path) -> None:
    folder = qwen3_0_6b(work).folder
    model = json.loads((folder / "config.json").read_text())
    layer = model | {"model_type": "llama", "num_hidden_layers": 1}
    (work / "head").mkdir()
    config = {
        "speculators_model_type": "eagle3",
        "speculators_config": {"algorithm": "eagle3"},
        "transformer_layer_config": layer,
        "draft_vocab_size": 32000,
    }
    (work / "head" / "config.json").write_text(json.dumps(config))
    wanted = {"method": "eagle3", "model": str(work / "head")}
    with (
        LLM(str(folder), **_QWEN3) as plain,  # type: ignore[arg-type]
        LLM(str(folder), **_QWEN3, speculative_config=wanted) as guessing,  # type: ignore[arg-type]
    ):
        params = SamplingParams(temperature=0.0, max_tokens=48, ignore_eos=True)
        for count in counts:
            questions = [[_RANDOM.randrange(300, 1200) for _ in range(32)] for _ in range(count)]
            name = f"qwen3 shape, a head that is never right, {count}"
            compare(name, (plain, guessing), questions, params, pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--model", choices=("demo", "qwen3", "draft", "head"), default="demo")
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 8, 32])
    given = parser.parse_args()
    changed = tuple(
        Scripted() if isinstance(one, LogitBias) else one for one in processors.PROCESSORS
    )
    with (
        mock.patch.object(processors, "PROCESSORS", changed),
        tempfile.TemporaryDirectory() as work,
    ):
        if given.model == "demo":
            demo(given.pairs, given.requests)
        elif given.model == "draft":
            draft(given.pairs, given.requests)
        else:
            run = qwen3 if given.model == "qwen3" else head
            run(given.pairs, given.requests, Path(work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
