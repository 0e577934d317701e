"""Templates are found where transformers finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from octavo.chat import load_chat_templates, render_chat
from octavo.errors import InvalidParameterError

USER = [{"role": "user", "content": "hi"}]
TOOL = [{"type": "function", "function": {"name": "f"}}]
TEMPLATES = {
    name: name + ":{{ messages[0].content }}{{ tools or '' }}"
    for name in ("default", "tool_use", "rag")
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    backend = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path)
    return tmp_path


def as_list(folder: Path, names: tuple[str, ...]) -> None:
    path = folder / "tokenizer_config.json"
    named = [{"name": name, "template": TEMPLATES[name]} for name in names]
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": named}))


def as_files(folder: Path, names: tuple[str, ...]) -> None:
    (folder / "additional_chat_templates").mkdir()
    for name in names:
        own = f"additional_chat_templates/{name}.jinja"
        path = folder / ("chat_template.jinja" if name == "default" else own)
        path.write_text(TEMPLATES[name])


def test_documents_take_the_template_that_was_made_for_them(folder: Path) -> None:
    named = [{"name": name, "template": TEMPLATES[name] + "{{ documents }}"} for name in TEMPLATES]
    ours = load_chat_templates(folder, {"chat_template": named}, None, {})
    assert ours is not None
    documents = {"documents": [{"text": "d"}]}
    assert render_chat(ours, USER, template_kwargs=documents).startswith("rag:")
    assert render_chat(ours, USER, tools=TOOL, template_kwargs=documents).startswith("tool_use:")
    assert render_chat(ours, USER).startswith("default:")


@pytest.mark.parametrize("store", [as_list, as_files])
@pytest.mark.parametrize(
    "names", [("default",), ("rag", "tool_use", "default"), ("default", "rag")]
)
@pytest.mark.parametrize("tools", [None, TOOL], ids=["no-tools", "tools"])
def test_named_templates_are_chosen_as_in_transformers(
    folder: Path, store: Any, names: tuple[str, ...], tools: Any
) -> None:
    store(folder, names)
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    ours = load_chat_templates(folder, config, None, {})
    assert ours is not None
    assert render_chat(ours, USER, tools=tools) == theirs.apply_chat_template(
        USER, tools=tools, tokenize=False, add_generation_prompt=True
    )


def test_a_template_that_is_never_used_need_not_parse(folder: Path) -> None:
    named = [
        {"name": "other", "template": "{% if"},
        {"name": "default", "template": "{{ messages[0].content }}"},
    ]
    ours = load_chat_templates(folder, {"chat_template": named}, None, {})
    assert ours is not None
    assert render_chat(ours, USER) == "hi"


def test_clients_read_the_name_of_the_servers_file_and_not_its_place(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    for source in ("{{ raise_exception('no') }}", "{{ 1 + messages }}", "Hello"):
        path.write_text(source)
        ours = load_chat_templates(tmp_path, {}, str(path), {})
        assert ours is not None
        with pytest.raises(InvalidParameterError, match=r"\(own\.jinja\)") as caught:
            render_chat(ours, USER)
        assert str(tmp_path) not in str(caught.value)
