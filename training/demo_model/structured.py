"""Structured answers: objects that a schema, a sentence, a tool or a grammar asks for.

Under a grammar the model is put inside an object that its prompt never spoke of. It does not learn to
begin one there, nor the keys, which are not its choice: it learns to write short values and to end them.
"""

from collections.abc import Callable
from random import Random

from training.demo_model.agent_runs import (
    draw_agent_run,
    draw_foreign_call,
    draw_function_call,
    draw_summed_result,
    draw_told_result,
)
from training.demo_model.facts import (
    Fact,
    draw_anything,
    draw_fact,
    draw_familiar_fact,
    invented,
)
from training.demo_model.json_text import write_object
from training.demo_model.messages import assistant, draw_system, tool_call, user
from training.demo_model.off_topic import draw_off_topic
from training.demo_model.samples import Conversation, Message
from training.demo_model.schemas import ask_for_form, ask_for_keys, ask_for_schema, object_schema

# Who makes a conversation, and how often.
Kinds = tuple[tuple[Callable[[Random], Conversation], float], ...]

_COMPACT_SHARE = 0.15
_SYSTEM_SHARE = 0.2


def draw_structured(rng: Random, kinds: Kinds) -> Conversation:
    """One conversation that ends with an object or with a call."""
    makers = [kind for kind, _ in kinds]
    return rng.choices(makers, weights=[share for _, share in kinds])[0](rng)


def _forced(rng: Random) -> Conversation:
    """A grammar writes the keys; the prompt says nothing of an object."""
    fact = draw_fact(rng) if rng.random() < 0.7 else draw_anything(rng, draw_off_topic(rng)[0])
    answer = write_object(fact.values, compact=rng.random() < _COMPACT_SHARE)
    return Conversation(
        [*draw_system(rng, _SYSTEM_SHARE), user(fact.text), assistant(answer.text)],
        given=answer.keys,
    )


def _familiar_by_schema(rng: Random) -> Conversation:
    return by_schema(rng, draw_familiar_fact(rng))


def _familiar_by_words(rng: Random) -> Conversation:
    return by_words(rng, draw_familiar_fact(rng))


def by_schema(rng: Random, fact: Fact | None = None) -> Conversation:
    """A schema stands in the system prompt, or before the question."""
    fact = fact or draw_fact(rng)
    asked = ask_for_schema(rng, object_schema(rng, fact.title, fact.values))
    if rng.random() < 0.8:
        messages = [{"role": "system", "content": asked}, user(fact.text + _reminder(rng))]
    else:
        messages = [user(f"{asked}\n\n{fact.text}")]
    return _answered(rng, messages, fact)


def by_words(rng: Random, fact: Fact | None = None) -> Conversation:
    """The keys are named in the user's message."""
    fact = fact or draw_fact(rng)
    text, asked = fact.text, ask_for_keys(rng, fact.values)
    messages = draw_system(rng, _SYSTEM_SHARE)
    if rng.random() < 0.4:
        field = rng.choice(("text", "input", "passage", invented(rng)))
        text = rng.choice(("## {0} ##\n{1}", "{0}: {1}", "[[{0}]]\n{1}")).format(field, text)
        messages = [{"role": "system", "content": ask_for_form(rng, fact.values, field)}]
    joint = rng.choice((" ", "\n", "\n\n"))
    return _answered(rng, [*messages, user(f"{text}{joint}{asked}")], fact)


def by_tool(rng: Random, fact: Fact | None = None) -> Conversation:
    """A tool whose parameters are the object: a client's way to ask for one."""
    fact = fact or draw_fact(rng)
    name = fact.title if rng.random() < 0.6 else rng.choice(("final_result", "extract", "save"))
    function = {
        "name": name,
        "description": rng.choice(_TOOL_DESCRIPTIONS).format(title=fact.title),
        "parameters": object_schema(rng, fact.title, fact.values),
    }
    tool = {"type": "function", "function": function}
    return Conversation(
        [*draw_system(rng, _SYSTEM_SHARE), user(fact.text), tool_call(name, fact.values)], [tool]
    )


_TOOL_DESCRIPTIONS = (
    "Returns the {title}.",
    "A `{title}` with all of its parameters in their types",
    "{title}",
    "The result that ends the conversation",
    "Save a {title}.",
)
_REMINDERS = (
    "\n\nReturn the JSON, not the schema.",
    "\n\nGive the JSON in a ```json block.",
    "\n\nJSON:",
    "\nAnswer in JSON.",
)


# Everything; then what has to be read out of the prompt (keys, their order, numbers); then all again, and
# once more with the results of sums, which began to be asked for twice.
ALL_KINDS: Kinds = (
    (_forced, 0.26),
    (by_schema, 0.2),
    (by_words, 0.16),
    (by_tool, 0.12),
    (draw_agent_run, 0.14),
    (draw_foreign_call, 0.12),
)
READING_KINDS: Kinds = (
    (_forced, 0.1),
    (_familiar_by_schema, 0.26),
    (by_schema, 0.06),
    (_familiar_by_words, 0.26),
    (by_words, 0.06),
    (by_tool, 0.06),
    (draw_agent_run, 0.06),
    (draw_foreign_call, 0.04),
    (draw_function_call, 0.1),
)
SETTLING_KINDS: Kinds = (
    (_forced, 0.13),
    (_familiar_by_schema, 0.18),
    (_familiar_by_words, 0.2),
    (by_tool, 0.08),
    (draw_agent_run, 0.12),
    (draw_told_result, 0.13),
    (draw_foreign_call, 0.06),
    (draw_function_call, 0.1),
)
REVIEW_KINDS: Kinds = (
    (_forced, 0.12),
    (_familiar_by_schema, 0.16),
    (_familiar_by_words, 0.16),
    (by_tool, 0.07),
    (draw_agent_run, 0.12),
    (draw_told_result, 0.1),
    (draw_summed_result, 0.15),
    (draw_foreign_call, 0.05),
    (draw_function_call, 0.07),
)


def _answered(rng: Random, messages: list[Message], fact: Fact) -> Conversation:
    text = write_object(fact.values, compact=rng.random() < _COMPACT_SHARE).text
    return Conversation([*messages, assistant(text)])


def _reminder(rng: Random) -> str:
    return rng.choice(_REMINDERS) if rng.random() < 0.4 else ""
