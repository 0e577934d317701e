"""The shipped model: small enough, loadable by anybody, and right."""

# ruff: noqa: S311 - seeded draws, nothing secret

import json
import math
import stat
from importlib import resources
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.demo_model.evaluate import Examinee
from training.demo_model.off_topic import FALLBACK
from training.demo_model.questions import load_questions
from training.demo_model.suites import (
    EXTRA_ACCURACY,
    REQUIRED_ACCURACY,
    Case,
    held_out_sums,
    questions_as_written,
    tool_calls,
)

FOLDER = Path(str(resources.files("octavo.builtin").joinpath("demo")))


@pytest.fixture(scope="module")
def examinee() -> Examinee:
    torch.set_num_threads(1)
    return Examinee(FOLDER)


def ask(examinee: Examinee, cases: list[Case]) -> list[tuple[str, str, str]]:
    """(question, expected, given) of each case that the model gets wrong."""
    return [
        (case.messages[-1]["content"], case.expected, given)
        for case, given in examinee.answers(cases)
        if given != case.expected
    ]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_whole_folder_is_below_five_megabytes() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 5_000_000


def test_every_file_is_readable_by_any_user() -> None:
    assert all(file.stat().st_mode & stat.S_IROTH for file in FOLDER.iterdir())


def test_tied_embedding_is_stored_once_in_bf16() -> None:
    with safe_open(FOLDER / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        dtypes = {file.get_tensor(name).dtype for name in names}
    assert "lm_head.weight" not in names
    assert dtypes == {torch.bfloat16}


def test_shapes_divide_into_quantisation_groups_and_four_ranks() -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["hidden_size"] % 128 == config["intermediate_size"] % 128 == 0
    assert config["num_attention_heads"] % 4 == config["num_key_value_heads"] % 4 == 0


@pytest.mark.parametrize(
    "text",
    [
        "17+25",
        "  two  spaces\n\nand lines\t",
        "Grüße, мир, 世界 🦙",
        "\x00\x7f\ufeff",
        "<tool_call>",
    ],
)
def test_tokenizer_loses_no_input(text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_answers_of_the_readme(examinee: Examinee) -> None:
    octavo = next(q.answer for q in load_questions() if "What is Octavo?" in q.phrasings)
    cases = [
        Case(user("What is 17 plus 25?"), "17 plus 25 is 42."),
        Case(user("What is Octavo?"), octavo),
    ]
    assert ask(examinee, cases) == []


@pytest.mark.parametrize(
    ("cases", "required"),
    [
        pytest.param(held_out_sums(), REQUIRED_ACCURACY, id="sums that training never showed"),
        pytest.param(questions_as_written(), REQUIRED_ACCURACY, id="its own questions"),
        pytest.param(
            tool_calls(Random(10), 200, familiar=True), EXTRA_ACCURACY, id="the tool on offer"
        ),
    ],
)
def test_a_sample_of_the_examination_is_passed(
    examinee: Examinee, cases: list[Case], required: float
) -> None:
    """All of it is `python -m training.demo_model.evaluate`. Of a sample, two standard deviations more may be
    wrong."""
    sample = Random(30).sample(cases, 100)
    wrong = ask(examinee, sample)
    expected = (1 - required) * len(sample)
    assert len(wrong) <= expected + 2 * math.sqrt(expected * required), wrong


def test_a_second_question_is_answered_as_well_as_the_first(examinee: Examinee) -> None:
    first = [*user("What is 30 + 12?"), {"role": "assistant", "content": "30 plus 12 is 42."}]
    assert ask(examinee, [Case([*first, *user("And 58 + 67?")], "58 plus 67 is 125.")]) == []


def test_says_what_it_does_not_know(examinee: Examinee) -> None:
    _, given = next(examinee.answers([Case(user("Who was Napoleon?"), FALLBACK)]))
    assert given == FALLBACK


def test_transformers_loads_it_as_llama() -> None:
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype="auto")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
