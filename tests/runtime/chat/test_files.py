"""Templates are found where transformers finds them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from octavo.chat import load_chat_templates, render_chat
from octavo.errors import InvalidParameterError, ModelInvalidError

USER = [{"role": "user", "content": "hi"}]
TOOL = [{"type": "function", "function": {"name": "f"}}]
TEMPLATES = {
    name: name + ":{{ messages[0].content }}{{ tools or '' }}"
    for name in ("default", "tool_use", "rag", "code")
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


@pytest.mark.parametrize("name", ["processor_config.json", "chat_template.json"])
def test_a_processors_template_is_taken_where_the_tokenizer_has_none(
    folder: Path, name: str
) -> None:
    (folder / name).write_text(json.dumps({"chat_template": TEMPLATES["default"]}))
    for config, begin in (({}, "default:"), ({"chat_template": TEMPLATES["code"]}, "code:")):
        ours = load_chat_templates(folder, config, None, {})
        assert ours is not None
        assert render_chat(ours, USER).startswith(begin)


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


@pytest.mark.parametrize("store", [as_list, as_files])
@pytest.mark.parametrize("name", ["tool_use", "rag", "code", "default"])
@pytest.mark.parametrize("tools", [None, TOOL], ids=["no-tools", "tools"])
def test_a_name_chooses_one_of_the_models_templates_for_all_requests(
    folder: Path, store: Any, name: str, tools: Any
) -> None:
    store(folder, tuple(TEMPLATES))
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    ours = load_chat_templates(folder, config, name, {})
    assert ours is not None
    assert render_chat(ours, USER, tools=tools) == theirs.apply_chat_template(
        USER, tools=tools, chat_template=name, tokenize=False, add_generation_prompt=True
    )
    with pytest.raises(ModelInvalidError, match=r"\(code, default, rag, tool_use\)"):
        load_chat_templates(folder, config, "codes", {})
    with pytest.raises(ModelInvalidError, match="there is no such file"):
        load_chat_templates(folder, config, "x" * 5000, {})


NAMES = st.lists(st.sampled_from([*TEMPLATES, "reranker"]), unique=True, max_size=4)


@settings(deadline=None)
@given(
    in_config=st.one_of(NAMES, st.just("one"), st.none()), in_folder=NAMES, has_tools=st.booleans()
)
def test_wherever_templates_are_kept_the_same_one_is_chosen(
    in_config: list[str] | str | None, in_folder: list[str], has_tools: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backend = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
        PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
        text = "{{ messages[0].content }}{{ tools or '' }}"
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text())
        if isinstance(in_config, str):
            config["chat_template"] = f"{in_config}:{text}"
        elif in_config is not None:
            named = [{"name": one, "template": f"listed {one}:{text}"} for one in in_config]
            config["chat_template"] = named
        path.write_text(json.dumps(config))
        (folder / "additional_chat_templates").mkdir()
        for one in in_folder:
            own = f"additional_chat_templates/{one}.jinja"
            path = folder / ("chat_template.jinja" if one == "default" else own)
            path.write_text(f"{one}:{text}")
        tools = TOOL if has_tools else None
        try:
            theirs = PreTrainedTokenizerFast.from_pretrained(folder).apply_chat_template(
                USER, tools=tools, tokenize=False, add_generation_prompt=True
            )
        except ValueError:
            theirs = None
        ours = load_chat_templates(folder, config, None, {})
        if theirs is not None:
            assert ours is not None
            assert render_chat(ours, USER, tools=tools) == theirs
        elif ours is not None:
            with pytest.raises(InvalidParameterError, match="no default: choose one with"):
                render_chat(ours, USER, tools=tools)


def test_a_template_that_cannot_be_read_is_told_with_its_file(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_bytes("{# é #}{{ messages[0].content }}".encode("latin-1"))
    with pytest.raises(ModelInvalidError, match=r"chat_template\.jinja cannot be read: .*utf-8"):
        load_chat_templates(folder, {}, None, {})
    with pytest.raises(ModelInvalidError, match="cannot be read"):
        load_chat_templates(folder, {}, str(path), {})
    # What it advises goes past it.
    assert load_chat_templates(folder, {}, "{{ messages[0].content }}", {}) is not None
