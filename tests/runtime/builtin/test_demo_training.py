"""How the demo model is made: data that repeats, pairs that stay hidden, a loss that falls."""

# ruff: noqa: S311 - seeded draws, nothing secret

import json
import re
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from training.demo_model import arithmetic, evaluate
from training.demo_model.batches import BatchMaker, Blend
from training.demo_model.conversations import (
    FOUNDATION,
    READING,
    REFINEMENT,
    STRUCTURED,
    Mixture,
    draw_sample,
)
from training.demo_model.model import export, new_model
from training.demo_model.questions import load_questions
from training.demo_model.recipe import DEMO_RECIPE, Phase, Recipe
from training.demo_model.samples import Conversation, PlainText
from training.demo_model.suites import REQUIRED_ACCURACY, build_suites
from training.demo_model.tokenizer import ASSISTANT, END, TOOL_INSTRUCTION, train_tokenizer
from training.demo_model.tool_tasks import draw_tool_task
from training.demo_model.train import answer_loss, new_optimizer, train, train_step

BLEND = Blend(FOUNDATION, row_weights=(1, 1, 0, 0))


def short_recipe(steps: int) -> Recipe:
    """Two phases, so that a change of blend lies within a handful of steps."""
    first = Phase(steps - 1, warmup_steps=1, peak_learning_rate=2e-3, blend=BLEND)
    last = replace(first, steps=1, blend=replace(BLEND, mixture=REFINEMENT))
    return Recipe((first, last), seed=3, tokens_per_step=512)


def texts_of(sample: Conversation | PlainText) -> list[str]:
    if not isinstance(sample, Conversation):
        return [sample.prompt + sample.rest]
    return [message["content"] or json.dumps(message["tool_calls"]) for message in sample.messages]


def test_the_same_seed_makes_the_same_batches(tokenizer: PreTrainedTokenizerFast) -> None:
    one, two = (BatchMaker(tokenizer, seed=1, tokens=2048) for _ in range(2))
    other = BatchMaker(tokenizer, seed=2, tokens=2048)
    assert torch.equal(one.make(5, BLEND).input_ids, two.make(5, BLEND).input_ids)
    assert not torch.equal(
        one.make(0, BLEND).input_ids[:1, :64], other.make(0, BLEND).input_ids[:1, :64]
    )
    assert not torch.equal(
        one.make(0, BLEND).input_ids[:1, :64], one.make(1, BLEND).input_ids[:1, :64]
    )


def test_the_same_seed_makes_the_same_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    again = train_tokenizer(seed=7)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


@pytest.mark.parametrize("mixture", [FOUNDATION, REFINEMENT, STRUCTURED, READING])
def test_training_never_shows_a_held_out_sum(mixture: Mixture) -> None:
    rng = Random(11)
    shown = set()
    for _ in range(12_000):
        for text in texts_of(draw_sample(rng, mixture)):
            shown |= {
                (int(a), int(b)) for a, b in re.findall(r"\b(\d\d?) plus (\d\d?) is \d", text)
            }
    assert len(shown) > 3_000
    assert not [pair for pair in shown if arithmetic.is_held_out(*pair)]


def test_about_a_twentieth_of_the_pairs_is_held_out_with_their_mirror_images() -> None:
    hidden = arithmetic.two_digit_pairs(held_out=True)
    assert 0.03 < len(hidden) / 8100 < 0.07
    assert {(b, a) for a, b in hidden} == set(hidden)


def test_question_set_is_large_and_every_question_has_several_phrasings() -> None:
    questions = load_questions()
    assert len(questions) >= 100
    assert min(len(question.phrasings) for question in questions) >= 4
    assert len({question.answer for question in questions}) == len(questions)


def test_only_the_assistants_words_are_learnt(tokenizer: PreTrainedTokenizerFast) -> None:
    maker = BatchMaker(tokenizer, seed=1, tokens=512)
    messages = [
        {"role": "user", "content": "1+2"},
        {"role": "assistant", "content": "1 plus 2 is 3."},
        {"role": "user", "content": "Thanks"},
        {"role": "assistant", "content": "You are welcome!"},
    ]
    sample = maker.encode(Conversation(messages))
    learnt = [token for token, mask in zip(sample.ids, sample.learnt, strict=True) if mask]
    assert tokenizer.decode(learnt) == f"1 plus 2 is 3.{END}You are welcome!{END}"


def test_template_writes_tool_calls_as_the_tasks_expect_them(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    task = draw_tool_task(Random(1), pair=(17, 25))
    function: dict[str, Any] = {"name": task.name, "arguments": json.dumps(task.arguments)}
    for arguments in (task.arguments, json.dumps(task.arguments)):
        function["arguments"] = arguments
        text = tokenizer.apply_chat_template(
            [
                {"role": "user", "content": task.question},
                {"role": "assistant", "content": None, "tool_calls": [{"function": function}]},
            ],
            tools=[task.tool],
            tokenize=False,
        )
        assert text.endswith(f"{ASSISTANT}{task.call}{END}")
        assert TOOL_INSTRUCTION in text
        assert json.dumps(task.tool["function"]) in text


def test_template_joins_content_parts_and_keeps_later_system_messages(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "17+25"}]},
        {"role": "system", "content": "Be brief."},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|>17+25<|end|><|system|>Be brief.<|end|><|assistant|>"


def test_the_promised_suites_require_ninety_nine_percent() -> None:
    required = {suite.name: suite.required for suite in build_suites(0)}
    promised = ("two-digit sums, held out", "two-digit sums, all", "questions, as written")
    assert all(required[name] >= REQUIRED_ACCURACY >= 0.99 for name in promised)


def test_a_few_steps_lower_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.set_num_threads(1)
    recipe = short_recipe(12)
    model = new_model(tokenizer, recipe.seed)
    optimizer = new_optimizer(model, recipe)
    maker = BatchMaker(tokenizer, recipe.seed, recipe.tokens_per_step)
    unseen = maker.make(1_000, BLEND)
    with torch.no_grad():
        before = answer_loss(model, unseen).item()
    for step in range(recipe.steps):
        train_step(model, optimizer, recipe, maker.make(step, recipe.blend(step)), step)
    with torch.no_grad():
        after = answer_loss(model, unseen).item()
    assert after < before - 1.0


def test_a_resumed_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    train(short_recipe(4), tmp_path / "whole", tmp_path / "whole-out", checkpoint_every=100)

    def stop_after_three(*args: Any) -> float:
        if args[-1] == 3:
            raise KeyboardInterrupt
        return train_step(*args)

    with monkeypatch.context() as patch:
        patch.setattr("training.demo_model.train.train_step", stop_after_three)
        with pytest.raises(KeyboardInterrupt):
            train(short_recipe(4), tmp_path / "parts", tmp_path / "parts-out", checkpoint_every=2)
    train(short_recipe(4), tmp_path / "parts", tmp_path / "parts-out", checkpoint_every=2)
    whole = (tmp_path / "whole-out/model.safetensors").read_bytes()
    assert (tmp_path / "parts-out/model.safetensors").read_bytes() == whole


def test_an_examination_below_the_bar_fails_and_shows_the_figures(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(new_model(tokenizer, seed=1), tokenizer, tmp_path)
    with pytest.raises(SystemExit) as exit_status:
        evaluate.main(tmp_path, at_most=1, threads=1)
    assert exit_status.value.code == 1
    shown = capsys.readouterr().out
    assert "0.00%" in shown
    assert "missed: two-digit sums, held out" in shown


def test_each_phase_warms_up_and_cools_down_on_its_own_blend() -> None:
    start = 0
    for phase in DEMO_RECIPE.phases:
        steps = range(start, start + phase.steps)
        rates = [DEMO_RECIPE.learning_rate(step) for step in steps]
        assert max(rates) == pytest.approx(phase.peak_learning_rate)
        assert rates.index(max(rates)) == phase.warmup_steps - 1
        assert max(rates) / 60 < rates[-1] < max(rates) / 40
        assert {DEMO_RECIPE.blend(step) for step in steps} == {phase.blend}
        start += phase.steps
    assert start == DEMO_RECIPE.steps
    with pytest.raises(ValueError, match="lies after the recipe's last step"):
        DEMO_RECIPE.learning_rate(start)
