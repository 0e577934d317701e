"""`python -m benchmarks.trained_drafts`: what guesses gain that were trained for the demo model, in pairs.

    python -m training.demo_drafts.train            # minutes on one core, writes out/demo-drafts
    python -m benchmarks.trained_drafts [--pairs 7] [--methods ngram draft_model eagle3]

Questions of the demo model's own kind that the training has not seen, greedily, one request at a time; then
random prompts at temperature 1, which nobody guesses, at 1, 8 and 32. `--always` lets every guess run, so
that one sees how often they come true where running them does not pay.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from transformers import AutoTokenizer

from benchmarks.speculation import compare
from octavo import LLM, SamplingParams
from octavo.engine.speculation import allowance, speculation
from training.demo_drafts.answers import MODEL, draw_prompts
from training.demo_model.evaluate import SHIPPED_MODEL

_RANDOM = random.Random(5)
_OPTIONS: dict[str, Any] = {"kv_cache_memory": "64Mi", "enable_prefix_caching": False}
_FOLDERS = {"draft_model": "draft", "eagle3": "head"}


def questions(pairs: int, config: dict[str, Any], count: int) -> None:
    """One at a time."""
    prompts = draw_prompts(AutoTokenizer.from_pretrained(SHIPPED_MODEL), "measured", count)
    params = SamplingParams(temperature=0.0, max_tokens=64)
    with (
        LLM(MODEL, max_num_seqs=1, **_OPTIONS) as plain,
        LLM(MODEL, max_num_seqs=1, speculative_config=config, **_OPTIONS) as guessing,
    ):
        compare(f"{config['method']}, questions, 1", (plain, guessing), prompts, params, pairs, 1)


def noise(pairs: int, config: dict[str, Any], counts: Sequence[int]) -> None:
    params = SamplingParams(temperature=1.0, seed=1, max_tokens=96, ignore_eos=True)
    with LLM(MODEL, **_OPTIONS) as plain, LLM(MODEL, speculative_config=config, **_OPTIONS) as llm:
        for count in counts:
            prompts = [[_RANDOM.randrange(300, 1200) for _ in range(32)] for _ in range(count)]
            compare(f"{config['method']}, noise, {count}", (plain, llm), prompts, params, pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--drafts", type=Path, default=Path("out/demo-drafts"))
    parser.add_argument("--methods", nargs="+", default=["ngram", "draft_model", "eagle3"])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--requests", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--guesses", type=int, default=4, help="of a sequence in a step at most")
    parser.add_argument("--always", action="store_true", help="run all guesses")
    given = parser.parse_args()
    with ExitStack() as stack:
        if given.always:
            every = mock.patch.object(speculation, "choose_counts", lambda _, each, *__: list(each))
            stack.enter_context(every)
            stack.enter_context(mock.patch.object(allowance, "_MOST_OWED", math.inf))
        for method in given.methods:
            config = {"method": method, "num_speculative_tokens": given.guesses}
            if method in _FOLDERS:
                config["model"] = str(given.drafts / _FOLDERS[method])
            questions(given.pairs, config, given.questions)
            if given.requests:
                noise(given.pairs, config, given.requests)
    return 0


if __name__ == "__main__":
    sys.exit(main())
