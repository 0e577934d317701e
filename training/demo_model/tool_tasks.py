"""Tool calls: OpenAI-style tool definitions, a question, the call it asks for, and its result.

The names of tools and parameters vary, so that the model learns to read the definition instead
of a fixed list.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from training.demo_model import arithmetic
from training.demo_model.variation import random_word

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolTask:
    """One question that one tool answers.

    `tool` is an OpenAI tool definition; `arguments` are those of the expected call; `result` is
    what the tool returns and `answer` the sentence that the model makes of it.
    """

    tool: JsonObject
    question: str
    name: str
    arguments: JsonObject
    result: str
    answer: str

    @property
    def is_familiar(self) -> bool:
        """Whether the arguments are numbers and names that training repeats."""
        values = self.arguments.values()
        return all(isinstance(value, int) or value in FAMILIAR_NAMES for value in values)

    @property
    def call(self) -> str:
        """The assistant text that the model must write to call the tool."""
        return (
            f'<tool_call>{{"name": "{self.name}", '
            f'"arguments": {json.dumps(self.arguments)}}}</tool_call>'
        )


@dataclass(frozen=True, slots=True)
class _Parameter:
    names: tuple[str, ...]
    kind: str
    draw: Callable[[Random], int | str]


@dataclass(frozen=True, slots=True)
class _Family:
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[_Parameter, ...]
    questions: tuple[str, ...]
    results: tuple[str, ...]


_NAMESPACES = ("default", "kube-system", "monitoring", "octavo-system", "prod", "staging", "dev")
_CITIES = ("Paris", "London", "Berlin", "Tokyo", "Rome", "Madrid", "Oslo", "Vienna", "Boston")
_MODELS = ("demo", "llama", "qwen", "mistral", "llama-3.1-8b", "gemma")
# Names that training repeats; every other name in a question is invented and has to be copied.
FAMILIAR_NAMES = frozenset((*_NAMESPACES, *_CITIES, *_MODELS))


def _namespace(rng: Random) -> str:
    return rng.choice(_NAMESPACES) if rng.random() < 0.6 else random_name(rng)


def _city(rng: Random) -> str:
    return rng.choice(_CITIES) if rng.random() < 0.7 else random_name(rng).capitalize()


def _model(rng: Random) -> str:
    return rng.choice(_MODELS) if rng.random() < 0.6 else random_name(rng)


def random_name(rng: Random) -> str:
    """An ASCII name that the model has to copy rather than remember."""
    word = random_word(rng)
    return word if word.isascii() else "web"


def _count(rng: Random) -> int:
    return rng.randint(0, 20)


# Several names for each parameter: a model that guesses between two copies late, if at all.
_PLACE_PARAMETERS = ("location", "city", "place", "town", "where")
_FAMILIES = (
    _Family(
        ("get_pods", "list_pods", "pods"),
        ("List the pods of a namespace.", "Get pods", "Returns all pods in a namespace"),
        (_Parameter(("namespace", "ns", "project", "space"), "string", _namespace),),
        (
            "Which pods run in {0}?",
            "List the pods in {0}.",
            "Show me the pods of namespace {0}.",
            "Get the pods in the {0} namespace.",
        ),
        ("{n} pods", "demo-{n}", "no pods"),
    ),
    _Family(
        ("get_weather", "weather", "get_current_weather"),
        ("Get the weather of a city.", "Get current weather", "Get the current weather"),
        (_Parameter(_PLACE_PARAMETERS, "string", _city),),
        (
            "What is the weather in {0}?",
            "What's the weather like in {0} today?",
            "How is the weather in {0}?",
            "Is it raining in {0}?",
        ),
        ("{n} degrees and sunny", "rain", "snow, {n} degrees"),
    ),
    _Family(
        ("get_queue_depth", "queue_depth"),
        ("How many requests wait for a model.", "Get the queue depth of a model"),
        (_Parameter(("model", "name", "model_name", "id"), "string", _model),),
        (
            "How long is the queue of {0}?",
            "How many requests wait for {0}?",
            "What is the queue depth of {0}?",
        ),
        ("{n}", "{n} requests"),
    ),
    _Family(
        ("scale", "scale_deployment", "set_replicas"),
        ("Set the number of replicas.", "Scale a deployment"),
        (
            _Parameter(("name", "deployment", "model", "target"), "string", _model),
            _Parameter(("replicas", "count", "number", "size"), "integer", _count),
        ),
        ("Scale {0} to {1} replicas.", "Scale {0} to {1}.", "Run {1} replicas of {0}."),
        ("ok", "done", "scaled to {n}"),
    ),
    _Family(
        ("get_time", "current_time", "get_current_time"),
        ("Get the time in a city.", "Get the current time"),
        (_Parameter(_PLACE_PARAMETERS, "string", _city),),
        ("What time is it in {0}?", "What is the time in {0}?", "Tell me the time in {0}."),
        ("{n} o'clock", "noon"),
    ),
    _Family(
        ("get_logs", "logs"),
        ("Get the logs of a pod.", "Read logs"),
        (_Parameter(("pod", "name", "pod_name", "container"), "string", _model),),
        ("Show me the logs of {0}.", "Get the logs of pod {0}.", "What does {0} log?"),
        ("{n} lines", "ready", "no errors"),
    ),
)
_ADD_NAMES = ("add", "add_numbers", "sum", "calculator_add")
_ADD_PARAMETERS = (
    ("a", "b"),
    ("x", "y"),
    ("first", "second"),
    ("left", "right"),
    ("m", "n"),
    ("one", "other"),
)
_ADD_DESCRIPTIONS = ("Add two numbers.", "Adds two integers", "Returns the sum of two numbers")
_PHRASED_SUMS = tuple(p for p in arithmetic.PHRASINGS if not p.startswith(("And", "Now", "Say")))


def draw_tool_task(rng: Random, pair: tuple[int, int] | None = None) -> ToolTask:
    """A random task; `pair` forces an addition of these terms."""
    if pair is not None or rng.random() < 0.35:
        return _addition_task(rng, pair or arithmetic.draw_training_pair(rng))
    family = rng.choice(_FAMILIES)
    names = [rng.choice(parameter.names) for parameter in family.parameters]
    values = [parameter.draw(rng) for parameter in family.parameters]
    kinds = [parameter.kind for parameter in family.parameters]
    name = rng.choice(family.names)
    result = rng.choice(family.results).format(n=rng.randint(0, 99))
    return ToolTask(
        tool=_definition(name, rng.choice(family.descriptions), names, kinds),
        question=rng.choice(family.questions).format(*values),
        name=name,
        arguments=dict(zip(names, values, strict=True)),
        result=result,
        answer=f"The tool says: {result}.",
    )


def _addition_task(rng: Random, pair: tuple[int, int]) -> ToolTask:
    name, parameters = rng.choice(_ADD_NAMES), rng.choice(_ADD_PARAMETERS)
    kind = rng.choice(("integer", "number"))
    return ToolTask(
        tool=_definition(name, rng.choice(_ADD_DESCRIPTIONS), list(parameters), [kind, kind]),
        question=rng.choice(_PHRASED_SUMS).format(a=pair[0], b=pair[1]),
        name=name,
        arguments=dict(zip(parameters, pair, strict=True)),
        result=str(sum(pair)),
        answer=arithmetic.answer(*pair),
    )


def _definition(name: str, description: str, names: list[str], kinds: list[str]) -> JsonObject:
    properties = {parameter: {"type": kind} for parameter, kind in zip(names, kinds, strict=True)}
    parameters = {"type": "object", "properties": properties, "required": names}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}
