"""The last message is gone on with where transformers goes on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.chat import ChatTemplate, ChatTemplates, render_chat
from octavo.errors import InvalidParameterError
from tests.support.runtime import published_templates as published
from tests.support.runtime.tiny_llama import save_tiny_llama

USER = {"role": "user", "content": "What is 17 plus 25?"}
BEGUN = ["It is", "It is ", "  It\n\nis <b>", "It is 42. It is"]
TEMPLATES = {
    "qwen": published.QWEN,
    "llama3": published.LLAMA3,
    "chatml": "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}",
    "trimmed": "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}<end>{% endfor %}",
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder: Path = tmp_path_factory.mktemp("tokenizer")
    save_tiny_llama(folder)
    return AutoTokenizer.from_pretrained(folder)


def render(template: str, messages: list[dict[str, Any]], **options: Any) -> str:
    one = ChatTemplate(template, {"bos_token": "<bos>", "eos_token": "<eos>"})
    return render_chat(ChatTemplates({"default": one}), messages, **options)


@pytest.mark.parametrize("begun", BEGUN)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_prompt_ends_with_what_was_begun(theirs: Any, name: str, begun: str) -> None:
    messages = [USER, {"role": "assistant", "content": begun}]
    expected = theirs.apply_chat_template(
        messages,
        chat_template=TEMPLATES[name],
        tokenize=False,
        continue_final_message=True,
        bos_token="<bos>",
        tools=None,
    )
    prompt = render(TEMPLATES[name], messages, continue_final_message=True)
    # Where the template trims, what stood behind the text is not known any more: we keep it.
    assert prompt.rstrip() == expected.rstrip()
    assert prompt.endswith((begun, begun.strip()))


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        ([USER], {}),
        ([USER, {"role": "assistant", "content": ""}], {}),
        ([USER, {"role": "assistant", "content": "It is"}], {"add_generation_prompt": True}),
    ],
    ids=["user's", "empty", "both"],
)
def test_what_cannot_be_gone_on_with_is_refused(
    messages: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParameterError, match="continue_final_message"):
        render(TEMPLATES["chatml"], messages, continue_final_message=True, **options)


def test_content_in_parts_is_gone_on_with_too() -> None:
    parts = [{"type": "text", "text": "It "}, {"type": "text", "text": "is"}]
    messages: list[dict[str, Any]] = [USER, {"role": "assistant", "content": parts}]
    prompt = render(TEMPLATES["chatml"], messages, continue_final_message=True)
    assert prompt.startswith("<user>What is 17 plus 25?<end><assistant>It")
    assert prompt.endswith("is")
