"""Examines a demo model through transformers: `python -m training.demo_model.evaluate`.

Answers are greedy, prompts go through the model's own chat template, and only the exact sentence
counts. Exits with 1 when a required share is missed.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from training.demo_model.suites import Case, Suite, build_suites

SHIPPED_MODEL = Path(__file__).parents[2] / "runtime/octavo/builtin/demo"
# Prompt and answer tokens that one batch may hold: long prompts run in small batches.
BATCH_TOKENS = 12_000


@dataclass(frozen=True, slots=True)
class Wrong:
    """A case with the answer that the model gave instead."""

    case: Case
    given: str


@dataclass(frozen=True, slots=True)
class Score:
    """How one suite went."""

    suite: Suite
    wrong: list[Wrong]

    @property
    def accuracy(self) -> float:
        return 1 - len(self.wrong) / len(self.suite.cases)

    @property
    def passed(self) -> bool:
        return self.accuracy >= self.suite.required


class Examinee:
    """A model folder, loaded as any user of transformers loads it."""

    def __init__(self, folder: Path, dtype: str = "auto") -> None:
        self._tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def answers(self, cases: list[Case]) -> Iterator[tuple[Case, str]]:
        """Each case with the model's greedy answer, shortest prompts first."""
        encoded = [
            (self._tokenizer.encode(self._prompt(c), add_special_tokens=False), c) for c in cases
        ]
        encoded.sort(key=lambda item: len(item[0]))
        while encoded:
            longest_answer = max(len(self._tokenizer.encode(c.expected)) for _, c in encoded) + 8
            size = 1
            while (
                size < len(encoded)
                and (size + 1) * (len(encoded[size][0]) + longest_answer) <= BATCH_TOKENS
            ):
                size += 1
            batch, encoded = encoded[:size], encoded[size:]
            prompts = [ids for ids, _ in batch]
            yield from zip(
                (c for _, c in batch), self._generate(prompts, longest_answer), strict=True
            )

    def _prompt(self, case: Case) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                case.messages, tools=case.tools or None, tokenize=False, add_generation_prompt=True
            )
        )

    @torch.inference_mode()
    def _generate(self, prompts: list[list[int]], max_new_tokens: int) -> list[str]:
        padded = self._tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        output = self._model.generate(**padded, max_new_tokens=max_new_tokens, do_sample=False)
        generated = output[:, padded["input_ids"].shape[1] :]
        return list(self._tokenizer.batch_decode(generated, skip_special_tokens=True))


def examine(examinee: Examinee, suites: list[Suite], console: Console) -> list[Score]:
    """Runs every suite; equal cases of two suites are asked twice, so that each stands alone."""
    scores = []
    with Progress(console=console, transient=True) as progress:
        for suite in suites:
            task = progress.add_task(suite.name, total=len(suite.cases))
            wrong = []
            for case, given in examinee.answers(suite.cases):
                if given != case.expected:
                    wrong.append(Wrong(case, given))
                progress.advance(task)
            scores.append(Score(suite, wrong))
    return scores


def report(scores: list[Score], show_wrong: int, console: Console) -> None:
    """The table of shares, with the first few wrong answers under it."""
    table = Table(
        "suite", "cases", "right", "required", "", title="demo model, greedy, exact match"
    )
    for column in (1, 2, 3):
        table.columns[column].justify = "right"
    for score in scores:
        table.add_row(
            score.suite.name,
            f"{len(score.suite.cases):,}",
            f"{score.accuracy:.2%}",
            f"{score.suite.required:.0%}" if score.suite.required else "-",
            _verdict(score),
        )
    console.print(table)
    for score in scores:
        for wrong in score.wrong[:show_wrong]:
            question = wrong.case.messages[-1]["content"][-70:]
            console.print(f"{score.suite.name}: {question!r} -> {wrong.given!r}", markup=False)


def _verdict(score: Score) -> str:
    if not score.suite.required:
        return "shown only"
    return "ok" if score.passed else "MISSED"


def sample_suites(suites: list[Suite], at_most: int) -> list[Suite]:
    """The same suites with at most `at_most` cases each, spread evenly."""
    return [
        Suite(s.name, s.cases[:: max(1, -(-len(s.cases) // at_most))], s.required) for s in suites
    ]


def main(
    model: Annotated[Path, typer.Argument(help="Model folder.")] = SHIPPED_MODEL,
    at_most: Annotated[int, typer.Option(min=1, help="Most cases of a suite.")] = 1_000_000,
    dtype: Annotated[str, typer.Option(help="auto (as stored), float32 or bfloat16.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    show_wrong: Annotated[int, typer.Option(min=0, help="Wrong answers shown of a suite.")] = 3,
    seed: Annotated[int, typer.Option(help="Decides the drawn cases.")] = 0,
) -> None:
    """Examine a demo model and print the share of right answers of each suite."""
    torch.set_num_threads(threads)
    console = Console(highlight=False)
    started = time.monotonic()
    suites = sample_suites(build_suites(seed), at_most)
    scores = examine(Examinee(model, dtype), suites, console)
    report(scores, show_wrong, console)
    missed = [score.suite.name for score in scores if not score.passed]
    verdict = "passed" if not missed else f"missed: {', '.join(missed)}"
    console.print(f"{verdict} ({time.monotonic() - started:.0f} s)")
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
