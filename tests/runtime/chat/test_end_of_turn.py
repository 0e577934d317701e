"""The token that ends an assistant's turn is learnt from the template, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer as Backend

from octavo.chat import ChatTemplate, ChatTemplates
from octavo.tokenizer import Tokenizer
from tests.support.runtime import published_templates as published
from tests.support.runtime.tokenizer_kinds import KINDS

SPECIAL = (
    "<bos>",
    "<eos>",
    "<|im_start|>",
    "<|im_end|>",
    "<|head|>",
    "<|eot|>",
    "<|User|>",
    "<|Assistant|>",
    "<|end of sentence|>",
    "[INST]",
    "[/INST]",
)
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ASKS = "<|im_start|>assistant\n"
# Turns begin with a token and end with none.
OPENED = (
    "<bos>{% for m in messages %}<|{{ m.role | capitalize }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>{% endif %}"
)
# As Kimi K3 and Solar-Open close thoughts: the turn goes on behind them.
PARTED = (
    "{% for m in messages %}<|head|>{{ m.role }}{% if m.reasoning %}{{ m.reasoning }}<|im_end|>{% endif %}"
    "{{ m.content }}<|im_end|>{% endfor %}"
)
# As GigaChat 3 closes an answer: its calls are messages of the same turn.
CALLED = (
    "{% for m in messages %}{{ m.role }}<|head|>{{ m.content or '' }}<|eot|>\n\n"
    "{% for c in m.tool_calls or [] %}"
    "function call<|head|>{{ c.function.name }}{{ c.function.arguments | tojson }}<|eot|>\n\n{% endfor %}"
    "{% endfor %}"
)
# As above, and without the text beside calls.
CALLED_ALONE = CALLED.replace(
    "{{ m.content or '' }}", "{{ m.content if not m.tool_calls else '' }}"
)
HEADED = "{% for m in messages %}<|head|>{{ m.role }}<|eot|>\n\n{{ m.content }}{% endfor %}"
# As Qwen 1.5: with a system message of its own, and the last answer open.
WITH_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if not loop.last or add_generation_prompt %}<|im_end|>\n{% endif %}{% endfor %}"
)
LAST_IS_OPEN = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{% if not loop.last %} <eos>{% endif %}{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module", params=["byte level", "llama of old", "gemma"])
def backend(request: pytest.FixtureRequest) -> Backend:
    found = KINDS[request.param]()
    found.add_special_tokens(list(SPECIAL))
    found.add_tokens(["\n\n", "<plain>"])
    return found


def ends(backend: Backend, *templates: str) -> list[str]:
    """What a model with these templates, `default` last, ends its answers with, its own end apart."""
    variables = {"bos_token": "<bos>", "eos_token": "<eos>"}
    named = {
        name: ChatTemplate(template, variables)
        for name, template in zip(("default", "tool_use"), reversed(templates), strict=False)
    }
    tokenizer = Tokenizer(backend, {}, ChatTemplates(named))
    return [str(backend.id_to_token(token_id)) for token_id in tokenizer.end_token_ids]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (published.QWEN, "<|im_end|>"),
        (published.QWEN_CODER, "<|im_end|>"),
        (published.HERMES, "<|im_end|>"),
        (published.VISION, "<|im_end|>"),
        (published.LLAMA3, "<|eot|>"),
        (published.LLAMA_GUARD, "<|eot|>"),
        (published.MISTRAL, "<eos>"),
        (published.MISTRAL_V3, "<eos>"),
        (published.DEEPSEEK_R1_DISTILL, "<|end of sentence|>"),
        (CHATML, "<|im_end|>"),
        (CHATML + "{% if add_generation_prompt %}" + ASKS + "{% endif %}", "<|im_end|>"),
        # It asks for an answer whether it is to or not.
        (CHATML + ASKS, "<|im_end|>"),
        # Spaces and newlines before the end are text of the turn.
        (CHATML.replace("<|im_end|>", " \n\n<|im_end|>"), "<|im_end|>"),
        (LAST_IS_OPEN, "<eos>"),
        (WITH_SYSTEM, "<|im_end|>"),
        # Of those made for tools some fail without any (Hermes 2 Pro, Command R+).
        ("{% for t in tools %}{{ t.function.name }}{% endfor %}" + CHATML, "<|im_end|>"),
        # What it writes behind the end opens something else.
        (CHATML.replace("<|im_end|>", "<eos><|im_end|>"), "<eos>"),
    ],
)
def test_what_a_template_writes_behind_an_answer_ends_it(
    backend: Backend, template: str, expected: str
) -> None:
    assert ends(backend, template) == [expected]


@pytest.mark.parametrize(
    "template",
    [
        OPENED,
        OPENED.replace("{% if add_generation_prompt %}", "").replace(
            "<|Assistant|>{% endif %}", "<|Assistant|>"
        ),
        HEADED,
        PARTED,
        OPENED.replace(
            "<bos>", "<bos>{% if messages[0].role != 'system' %}<|User|>You help.{% endif %}"
        ),
        "{% if messages[0].role != 'system' %}<|head|>system<|eot|>You help.{% endif %}" + HEADED,
        CALLED,
        CALLED_ALONE,
        "{{ tools[0].function.name }}" + CALLED,
        # Text, and a token that is none of the special ones.
        CHATML.replace("<|im_end|>", ""),
        CHATML.replace("<|im_end|>", "<plain>"),
        CHATML.replace("<|im_end|>", "."),
        CHATML.replace("<|im_end|>", " END <|im_end|>"),
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}",
        # It shows no answer, or none as it was written.
        "{{ messages[0].content }}<|im_end|>",
        CHATML.replace("m.content", "m.content | upper"),
        "{% if messages[1] %}{{ raise_exception('one') }}{% endif %}{{ messages[0].content }}<eos>",
    ],
)
def test_nothing_else_does(backend: Backend, template: str) -> None:
    assert ends(backend, template) == []


def test_each_template_that_may_be_chosen_counts_and_the_tokenizers_own_end(
    backend: Backend,
) -> None:
    assert ends(backend, published.LLAMA3, CHATML) == ["<|im_end|>", "<|eot|>"]
    assert Tokenizer(backend, {"eos_token": "<eos>"}, None).end_token_ids == (
        backend.token_to_id("<eos>"),
    )
    assert Tokenizer(backend, {"eos_token": "not there"}, None).end_token_ids == ()
