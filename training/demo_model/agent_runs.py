"""Agent runs: tools of any name, and runs that end with the tool that takes the answer.

Where such a tool is on offer and another has given the result, the result goes to it, instead of into
a sentence; calls and results may also stand in the conversation as plain text.
"""

import json
from random import Random

from training.demo_model.arithmetic import draw_training_pair, draw_training_sum
from training.demo_model.facts import draw_keys, draw_name, draw_town, invented
from training.demo_model.messages import assistant, draw_system, tool_call, tool_result, user
from training.demo_model.questions import load_questions
from training.demo_model.samples import Conversation, Message
from training.demo_model.schemas import object_schema
from training.demo_model.tool_tasks import JsonObject, ToolTask, draw_tool_task
from training.demo_model.variation import WORDS

_ENDS = ("final_result", "final_answer", "finish", "submit_answer", "respond", "report", "done")
_END_PARAMETERS = ("response", "answer", "result", "value", "output")
_END_DESCRIPTIONS = (
    "Gives the final answer.",
    "The answer that ends the conversation",
    "Ends the run with its result",
    "Call this last, with the final answer to the task.",
)
_TASK_PREFIXES = ("", "", "New task:\n", "Task: ", "Task:\n", "The task:\n")
_RESULT_PREFIXES = ("Observation:\n", "Result:\n", "Observation: ", "Tool result: ", "Output:\n")
_CALL_PREFIXES = ("Calling tools:\n", "Called: ", "Calls:\n")
_VERBS = ("get", "find", "create", "delete", "show", "check", "search", "read", "open", "send")

_FUNCTION_QUESTIONS = (
    "What is {name}({told})? Use the tool.",
    "Which value has {name}({told})?",
    "Call {name} with {told}.",
    "Compute {name}({told}).",
    "Use the tool for {name}({told}).",
    "Tell me the value of {name}({told}), with the tool.",
)
_FUNCTION_DESCRIPTIONS = (
    "Applies the {0} to a number.",
    "The {0} of the input",
    "Compute the {0}.",
)


def draw_agent_run(rng: Random) -> Conversation:
    """Two tools in turn: the one that knows, then the one that ends the run."""
    pair = draw_training_pair(rng) if rng.random() < 0.5 else None
    task = draw_tool_task(rng, pair)
    end, last = _end(rng, task)
    tools = [_dressed(rng, task), end]
    if rng.random() < 0.3:
        rng.shuffle(tools)
    messages = draw_system(rng, 0.4)
    messages.append(user(rng.choice(_TASK_PREFIXES) + task.question))
    first = tool_call(task.name, task.arguments)
    draw = rng.random()
    if draw < 0.35:
        return Conversation([*messages, first], tools)
    if draw < 0.7:
        return Conversation([*messages, first, tool_result(task.result), last], tools)
    observed = user(rng.choice(_RESULT_PREFIXES) + task.result)
    return Conversation([*messages, _told_call(rng, task), observed, last], tools, only_last=True)


def draw_told_result(rng: Random) -> Conversation:
    """The same tools where none takes the answer: the result goes into a sentence."""
    task = draw_tool_task(rng, draw_training_pair(rng) if rng.random() < 0.6 else None)
    result = json.dumps({"result": task.result}) if rng.random() < 0.15 else task.result
    messages = [*draw_system(rng, 0.3), user(task.question), tool_call(task.name, task.arguments)]
    return Conversation(
        [*messages, tool_result(result), assistant(task.answer)], [_dressed(rng, task)]
    )


def draw_summed_result(rng: Random) -> Conversation:
    """A sum by a tool that is written as the responses API writes it: the call, or the result told."""
    pair = draw_training_pair(rng)
    task = draw_tool_task(rng, pair if rng.random() < 0.8 else None)
    dressed = _dressed(rng, task)["function"]
    written = ("name", "parameters", "strict", "description")
    function = {name: (dressed | {"strict": True})[name] for name in written}
    messages = [*draw_system(rng, 0.2), user(task.question), tool_call(task.name, task.arguments)]
    if rng.random() < 0.8:
        messages += [tool_result(task.result), assistant(task.answer)]
    return Conversation(messages, [{"type": "function", "function": function}])


def draw_foreign_call(rng: Random) -> Conversation:
    """A tool that no list knows, called for what it says it does, or left alone for what it does not."""
    tool, name, arguments, question = _foreign_tool(rng)
    tools = [tool]
    if rng.random() < 0.3:
        tools.append(_foreign_tool(rng)[0])
        rng.shuffle(tools)
    messages = draw_system(rng, 0.2)
    if rng.random() < 0.15:
        other, answer = _unrelated(rng)
        return Conversation([*messages, user(other), assistant(answer)], tools)
    messages += [user(question), tool_call(name, arguments)]
    if rng.random() < 0.4:
        result = f"{rng.randint(0, 99)} {rng.choice(WORDS['things'])}s"
        if rng.random() < 0.3:
            result = f"It is {rng.choice(WORDS['qualities'])}."
        told = f"The tool says: {result.removesuffix('.')}."
        messages += [tool_result(result), assistant(told)]
    return Conversation(messages, tools)


def draw_function_call(rng: Random) -> Conversation:
    """A tool that is asked for as a function of one or two numbers, which are to be copied."""
    word = rng.choice(WORDS["things"]) if rng.random() < 0.7 else invented(rng)
    name = rng.choice(("{0}_function", "{0}", "{0}_value", "my_{0}", "{0}_tool")).format(word)
    keys = draw_keys(
        rng, [("input", "x", "n", "number", "value", "a", "first")] * rng.randint(1, 2)
    )
    most = rng.choice((9, 20, 99, 500))
    arguments: JsonObject = {key: rng.randint(0, most) for key in keys}
    told = ", ".join(map(str, arguments.values()))
    question = rng.choice(_FUNCTION_QUESTIONS).format(name=name, told=told)
    tool = _definition(rng, name, rng.choice(_FUNCTION_DESCRIPTIONS).format(word), arguments)
    if rng.random() < 0.4:
        for one in tool["function"]["parameters"]["properties"].values():
            one |= {"minimum": -1000, "maximum": 1000}
    call = tool_call(name, arguments)
    return Conversation([*draw_system(rng, 0.2), user(question), call], [tool])


def _foreign_tool(rng: Random) -> tuple[JsonObject, str, JsonObject, str]:
    """Definition, name, arguments, and the question that asks for them."""
    if rng.random() < 0.3:
        return _weather(rng)
    verb, thing = rng.choice(_VERBS), rng.choice(WORDS["things"])
    name = f"{verb}_{thing}" if rng.random() < 0.6 else f"{invented(rng)}_{thing}"
    keys = draw_keys(rng, [WORDS["keys"]] * rng.randint(0, 2))
    values = [rng.randint(0, 500) if rng.random() < 0.4 else draw_name(rng) for _ in keys]
    arguments: JsonObject = dict(zip(keys, values, strict=True))
    told = " and ".join(f"{key} {value}" for key, value in arguments.items())
    question = rng.choice(
        (
            f"{verb.capitalize()} the {thing}" + (f" with {told}." if told else "."),
            f"Use {name}" + (f" with {told}." if told else "."),
            f"Please {verb} a {thing}" + (f": {told}" if told else ""),
            f"What does {name}({', '.join(map(str, values))}) return? Use the tool.",
        )
    )
    description = f"{verb.capitalize()} the {thing}."
    return _definition(rng, name, description, arguments), name, arguments, question


def _weather(rng: Random) -> tuple[JsonObject, str, JsonObject, str]:
    what = rng.choice(("weather", "time", "temperature", "traffic", "forecast"))
    name = rng.choice(("get_{0}", "{0}", "find_{0}", "current_{0}")).format(what)
    town = draw_town(rng)
    key = rng.choice(("location", "city", "place", "town", "where"))
    question = rng.choice(
        ("What is the {0} in {1}?", "Tell me the {0} in {1}.", "The {0} of {1}?", "{0} in {1}")
    ).format(what, town)
    description = rng.choice(("Get the {0} at a location.", "{0} of a town", "The {0} in a city."))
    arguments = {key: town}
    return _definition(rng, name, description.format(what), arguments), name, arguments, question


def _definition(rng: Random, name: str, description: str, arguments: JsonObject) -> JsonObject:
    parameters = object_schema(rng, name, arguments)
    function: JsonObject = {"name": name, "description": description, "parameters": parameters}
    if rng.random() < 0.2:
        function = {"name": name, "parameters": parameters, "description": description}
    if rng.random() < 0.3:
        function["strict"] = True
    return {"type": "function", "function": function}


def _dressed(rng: Random, task: ToolTask) -> JsonObject:
    """The task's own tool, its parameters written as one client or another writes them."""
    function = task.tool["function"]
    return _definition(rng, task.name, function["description"], task.arguments)


def _end(rng: Random, task: ToolTask) -> tuple[JsonObject, Message]:
    """A tool that takes the answer, as a number where it is one or as a string; and its call."""
    as_number = task.result.isdigit() and rng.random() < 0.6
    answer: JsonObject = {
        rng.choice(_END_PARAMETERS): int(task.result) if as_number else task.result
    }
    name = rng.choice(_ENDS)
    return _definition(rng, name, rng.choice(_END_DESCRIPTIONS), answer), tool_call(name, answer)


def _told_call(rng: Random, task: ToolTask) -> Message:
    """A call that a client has put into the conversation as text."""
    call = {"name": task.name, "arguments": task.arguments}
    if rng.random() < 0.6:
        identity = f"call_{rng.getrandbits(96):024x}"
        told = [{"id": identity, "type": "function", "function": call}]
        return assistant(rng.choice(_CALL_PREFIXES) + str(told))
    return assistant(rng.choice(_CALL_PREFIXES) + json.dumps(call))


def _unrelated(rng: Random) -> tuple[str, str]:
    if rng.random() < 0.5:
        return draw_training_sum(rng)
    entry = rng.choice(load_questions())
    return rng.choice(entry.phrasings), entry.answer
