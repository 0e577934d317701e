"""Tokenizer and chat template give what transformers gives, without importing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from octavo.errors import InvalidParameterError, ModelInvalidError, UnsupportedParameterError
from octavo.tokenizer import load_tokenizer

# The shapes of the templates of Llama 3, Qwen3 and Mistral: loops with state, tools, tojson, dates.
LLAMA3 = """{{- bos_token }}
{%- if tools is not none and tools %}
    {{- "Tools:\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if message.role not in ['user', 'system', 'assistant', 'tool'] %}
        {{- raise_exception("Unknown role " + message.role) }}
    {%- endif %}
    {{- '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\\n\\n' }}
{%- endif %}
"""
QWEN3 = """{%- set ns = namespace(multi_step_tool=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set reasoning = message.reasoning_content if message.reasoning_content is string else '' %}
        {%- generation %}
        {{- '<|start|>assistant\\n' + ('<think>' + reasoning + '</think>' if reasoning else '') }}
        {{- message.content }}
        {%- endgeneration %}
        {%- if message.tool_calls %}
            {%- for call in message.tool_calls %}
                {{- '<call>' + call.function.name + (call.function.arguments | tojson) }}
            {%- endfor %}
        {%- endif %}
    {%- else %}
        {%- if loop.first and message.role == 'tool' %}{% continue %}{% endif %}
        {{- '<|start|>' + message.role + '\\n' + message.content + '<|eot|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
PLAIN = """{% for message in messages %}
{% if message['role'] == 'user' %}
[INST] {{ message['content'] }} [/INST]
{% else %}
{{ message['content'] }}{{ eos_token }}
{% endif %}
{% endfor %}
"""
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "wetter",
            "description": "<Wetter> für 'Köln' & \"Ulm\"",
            "parameters": {},
        },
    }
]
MESSAGES: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "  Hello, wörld <b>🙂</b>  "}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4", "reasoning": "easy"},
        {"role": "user", "content": "and\n\nthen?"},
    ],
    [
        {"role": "user", "content": "weather"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"type": "function", "function": {"name": "wetter", "arguments": {"ort": "Köln"}}}
            ],
        },
        {"role": "tool", "content": '{"grad": 20}'},
    ],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<bos>", "<eos>", "<|start|>", "<|end|>", "<|eot|>"],
        show_progress=False,
    )
    backend.train_from_iterator(["hello world, hello weather"] * 20, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", chat_template=LLAMA3
    )
    fast.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("template", [LLAMA3, QWEN3, PLAIN], ids=["llama3", "qwen3", "plain"])
@pytest.mark.parametrize("messages", MESSAGES, ids=["one", "several", "tools"])
@pytest.mark.parametrize("tools", [None, TOOLS], ids=["no-tools", "with-tools"])
def test_conversations_become_the_same_tokens(
    folder: Path, template: str, messages: list[dict[str, Any]], tools: Any
) -> None:
    (folder / "chat_template.jinja").write_text(template)
    has_calls = any("tool_calls" in message for message in messages)
    if (tools and template is not LLAMA3) or (has_calls and template is not QWEN3):
        with pytest.raises(UnsupportedParameterError):
            load_tokenizer(folder).encode_chat(messages, tools=tools)
        return
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = load_tokenizer(folder)
    for add_generation_prompt in (True, False):
        for kwargs in ({}, {"enable_thinking": False}) if template is QWEN3 else ({},):
            expected = theirs.apply_chat_template(
                messages,
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                tokenize=True,
                return_dict=False,
                **kwargs,
            )
            assert expected == ours.encode_chat(
                messages,
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                template_kwargs=kwargs,
            )


def test_plain_text_becomes_the_same_tokens_and_back(folder: Path) -> None:
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = load_tokenizer(folder)
    for text in ("hello world", "", "Grüße 🙂 <eos> x", "a\n\nb"):
        ids = ours.encode(text)
        assert ids == theirs.encode(text)
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(
            text, add_special_tokens=False
        )
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
                ids, skip_special_tokens=skip
            )
    assert ours.eos_token_id == theirs.eos_token_id
    assert ours.vocab_size == len(theirs)


def test_a_template_in_tokenizer_config_and_a_list_of_them_work(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    for template in (
        "A{{ messages[0].content }}",
        [
            {"name": "rag", "template": "no"},
            {"name": "default", "template": "A{{ messages[0].content }}"},
        ],
    ):
        path.write_text(json.dumps({**config, "chat_template": template}))
        tokenizer = load_tokenizer(folder)
        assert tokenizer.decode(tokenizer.encode_chat([{"role": "user", "content": "b"}])) == "Ab"


def test_a_given_template_overrides_the_models(folder: Path, tmp_path: Path) -> None:
    message = [{"role": "user", "content": "x"}]
    inline = load_tokenizer(folder, "T:{{ messages[0].content }}")
    assert inline.decode(inline.encode_chat(message)) == "T:x"
    file = tmp_path / "mine.jinja"
    file.write_text("F:{{ messages[0].content }}")
    from_file = load_tokenizer(folder, str(file))
    assert from_file.decode(from_file.encode_chat(message)) == "F:x"
    with pytest.raises(ModelInvalidError, match="no such file"):
        load_tokenizer(folder, "absent.jinja")


def test_what_the_template_refuses_is_the_callers_error(folder: Path) -> None:
    tokenizer = load_tokenizer(folder, "{{ raise_exception('Unknown role ' + messages[0].role) }}")
    with pytest.raises(InvalidParameterError, match="Unknown role user") as error:
        tokenizer.encode_chat([{"role": "user", "content": "x"}])
    assert error.value.parameter == "messages[0]"
    with pytest.raises(InvalidParameterError):
        load_tokenizer(folder, QWEN3).encode_chat([{"role": "user"}])


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages.append('x') }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    ],
)
def test_a_template_cannot_leave_the_sandbox(folder: Path, template: str) -> None:
    with pytest.raises((InvalidParameterError, ModelInvalidError)):
        load_tokenizer(folder, template).encode_chat([{"role": "user", "content": "x"}])


def test_broken_files_are_named(folder: Path) -> None:
    with pytest.raises(ModelInvalidError, match="does not parse"):
        load_tokenizer(folder, "{% if %}")
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelInvalidError, match=r"tokenizer_config\.json"):
        load_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelInvalidError, match="damaged"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelInvalidError, match=r"no tokenizer\.json"):
        load_tokenizer(folder)


def test_a_base_model_has_no_chat(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    tokenizer = load_tokenizer(folder)
    with pytest.raises(InvalidParameterError, match="no chat template"):
        tokenizer.encode_chat([{"role": "user", "content": "x"}])
