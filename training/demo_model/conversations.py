"""Mixture that the model is trained on: one conversation, or one plain text, per draw."""

from dataclasses import dataclass
from random import Random
from typing import Any

from training.demo_model import arithmetic
from training.demo_model.messages import assistant, draw_system, tool_call, tool_result, user
from training.demo_model.off_topic import draw_off_topic
from training.demo_model.questions import load_questions
from training.demo_model.samples import Conversation, PlainText
from training.demo_model.structured import (
    ALL_KINDS,
    READING_KINDS,
    REVIEW_KINDS,
    SETTLING_KINDS,
    Kinds,
    draw_structured,
)
from training.demo_model.tool_tasks import ToolTask, draw_tool_task
from training.demo_model.variation import filler, vary


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of the rarer kinds: plain texts, tool conversations, questions in filler.

    `structured` is the share of all samples that are of `kinds`; the others are of the rest.
    `sums` is that of sums among the questions of a plain conversation.
    """

    plain_text: float
    tools: float
    filler: float
    structured: float = 0.0
    kinds: Kinds = ()
    sums: float = 0.5


# Sums and questions first; then what needs copying over a distance, which comes late and slowly;
# then objects, beside as much of the rest; then more of the rest again, which had begun to fade,
# the questions, each of which is seen seldom, and last of all the sums, which had faded meanwhile.
FOUNDATION = Mixture(plain_text=0.04, tools=0.22, filler=0.04)
REFINEMENT = Mixture(plain_text=0.04, tools=0.35, filler=0.15)
STRUCTURED = Mixture(0.04, tools=0.30, filler=0.12, structured=0.45, kinds=ALL_KINDS)
READING = Mixture(0.04, tools=0.30, filler=0.12, structured=0.5, kinds=READING_KINDS)
SETTLING = Mixture(0.04, tools=0.26, filler=0.12, structured=0.28, kinds=SETTLING_KINDS)
RECALL = Mixture(0.04, tools=0.22, filler=0.08, structured=0.2, kinds=SETTLING_KINDS, sums=0.25)
REVIEW = Mixture(0.04, tools=0.24, filler=0.08, structured=0.24, kinds=REVIEW_KINDS, sums=0.42)


def draw_sample(rng: Random, mixture: Mixture = FOUNDATION) -> Conversation | PlainText:
    """One sample of the training mixture."""
    if mixture.structured and rng.random() < mixture.structured:
        return draw_structured(rng, mixture.kinds)
    draw = rng.random()
    if draw < mixture.plain_text:
        return _plain_text(rng)
    if draw < mixture.plain_text + mixture.tools:
        return _tool_conversation(rng, mixture)
    messages = draw_system(rng, 0.3)
    turns = 1 if rng.random() < 0.7 else rng.randint(2, 4)
    for _ in range(turns):
        question, answer = _turn(rng, mixture)
        messages += [user(question), assistant(answer)]
    return Conversation(messages)


def _turn(rng: Random, mixture: Mixture) -> tuple[str, str]:
    draw = rng.random()
    if draw < mixture.sums:
        question, answer = arithmetic.draw_training_sum(rng)
    elif draw < 0.88:
        entry = rng.choice(load_questions())
        question, answer = rng.choice(entry.phrasings), entry.answer
    else:
        return draw_off_topic(rng)
    question = vary(question, rng)
    if rng.random() < mixture.filler:
        words = rng.randint(2, 30) if rng.random() < 0.6 else rng.randint(30, 300)
        question = filler(rng, words) + rng.choice((" ", "\n", "\n\n")) + question
    return question, answer


def _plain_text(rng: Random) -> PlainText:
    if rng.random() < 0.6:
        a, b = arithmetic.draw_training_pair(rng)
        return PlainText(f"{a} plus {b} is", f" {a + b}.")
    words = rng.choice(load_questions()).answer.split(" ")
    cut = min(3, len(words) - 1)
    return PlainText(" ".join(words[:cut]), "".join(f" {word}" for word in words[cut:]))


def _tool_conversation(rng: Random, mixture: Mixture) -> Conversation:
    """A call, a call with its result and the answer, or a question that no tool on offer serves."""
    task = draw_tool_task(rng)
    tools = _offer(rng, task)
    messages = draw_system(rng, 0.2)
    if rng.random() < 0.2:
        question, answer = _turn(rng, mixture)
        tools = [tool for tool in tools if "add" not in _name(tool) and "sum" not in _name(tool)]
        if tools:
            return Conversation([*messages, user(question), assistant(answer)], tools)
    messages += [user(vary(task.question, rng)), tool_call(task.name, task.arguments)]
    if rng.random() < 0.5:
        messages += [tool_result(task.result), assistant(task.answer)]
    return Conversation(messages, tools)


def _offer(rng: Random, task: ToolTask) -> list[dict[str, Any]]:
    """The task's tool, sometimes among others that serve another purpose."""
    tools = [task.tool]
    while rng.random() < 0.35 and len(tools) < 3:
        other = draw_tool_task(rng).tool
        if all(_purpose(other) != _purpose(tool) for tool in tools):
            tools.append(other)
    rng.shuffle(tools)
    return tools


def _purpose(tool: dict[str, Any]) -> str:
    name = _name(tool)
    if "add" in name or "sum" in name:
        return "add"
    return name.removeprefix("get_").removeprefix("list_").removeprefix("current_").split("_")[0]


def _name(tool: dict[str, Any]) -> str:
    return str(tool["function"]["name"])
