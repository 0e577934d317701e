"""What a template may say, and what it sees of messages, is what transformers renders and lets it see."""

from __future__ import annotations

import copy
from typing import Any

import jinja2
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from octavo.chat import ChatTemplate
from octavo.errors import InvalidParameterError

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be <b>brief</b>, 'é' \"q\""},
    {"role": "user", "content": " Hello  World\n"},
    {"role": "assistant", "content": "Hi.", "reasoning_content": "A greeting."},
    {"role": "user", "content": "Bye."},
]
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
IN_EACH = "{% for m in messages %}BODY{% endfor %}"
PROGRAMS = {
    "a value that is set in what was generated": "{% set text = 'out' %}"
    + IN_EACH.replace(
        "BODY",
        "{% generation %}{% set text = m.content %}{{ text }}{% endgeneration %}[{{ text }}]",
    ),
    "a namespace that is set there": "{% set ns = namespace(n=0) %}"
    + IN_EACH.replace("BODY", "{% generation %}{% set ns.n = ns.n + 1 %}{% endgeneration %}")
    + "{{ ns.n }}",
    "a loop's place there": IN_EACH.replace(
        "BODY", "{% generation %}{{ loop.index }}{{ m.role }}{{ loop.last }}{% endgeneration %}"
    ),
    "a macro there": "{% macro bold(x) %}*{{ x }}*{% endmacro %}"
    + IN_EACH.replace("BODY", "{%- generation -%}\n {{ bold(m.role) }} \n{% endgeneration %}"),
    "namespaces": "{% set ns = namespace({'a': 1}, self=2) %}{{ ns.a }}{{ ns.self }}",
    "lists in look-ups": "{{ messages | rejectattr('role', 'in', ['user']) | list | length }}",
    "JSON": "{{ messages[:2] | tojson }}{{ {'b': 1, 'a': [1.0, none]} | tojson(indent=1) }}",
    "whole messages": "{{ messages | tojson }}{{ messages[2] }}{{ messages[2] | length }}",
    "texts": "{{ messages[1].content.strip().split(' ') }}{{ 'ab'.removeprefix('a') }}{{ 'a' ~ none }}",
    "early ends": IN_EACH.replace(
        "BODY", "{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}"
    ),
    "lines": "a  \n  {% if true %}  \n b\r\n  {% endif %}\n\n",
    "what nobody gave": "{{ tools }}{{ documents is none }}{{ nope }}{{ messages[0].nope }}",
}


def theirs(program: str) -> str:
    (rendered,), _ = render_jinja_template(
        [copy.deepcopy(MESSAGES)],
        chat_template=program,
        add_generation_prompt=True,
        **VARIABLES,
    )
    assert isinstance(rendered, str)
    return rendered


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_render_as_in_transformers(name: str) -> None:
    program = PROGRAMS[name]
    assert ChatTemplate(program, VARIABLES).render(MESSAGES) == theirs(program)


@pytest.mark.parametrize(
    "program",
    [
        "{% set ns = namespace(_a=1) %}",
        "{% set ns = namespace({'__class__': 1}) %}",
        "{% set ns = namespace() %}{% set ns._a = 1 %}",
        "{{ messages.append(1) }}",
        "{{ messages.__class__ }}{{ messages.__class__.__mro__ }}",
    ],
)
def test_ways_to_python_are_closed_as_in_transformers(program: str) -> None:
    with pytest.raises(jinja2.TemplateError):
        theirs(program)
    with pytest.raises(InvalidParameterError):
        ChatTemplate(program, VARIABLES).render(MESSAGES)


@pytest.mark.parametrize("name", ["reasoning", "thought"])
def test_a_rare_name_of_reasoning_is_there_for_those_that_read_it(name: str) -> None:
    looked_up = [f"{{{{ m.{name} }}}}", f"{{{{ m['{name}'] }}}}", f"{{{{ m.get('{name}') }}}}"]
    for read in looked_up:
        program = IN_EACH.replace("BODY", "{% if m.role == 'assistant' %}" + read + "{% endif %}")
        assert ChatTemplate(program).render(MESSAGES) == "A greeting."
