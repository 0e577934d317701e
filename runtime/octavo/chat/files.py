"""Files of chat templates. Where a model's chat templates are kept: a file of their own, a folder, or
tokenizer_config.json."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octavo.chat.forms import ContentFormat
from octavo.chat.template import ChatTemplate, ChatTemplates
from octavo.errors import ModelInvalidError
from octavo.json_files import read_json_object_if_any

# Of models that see or hear, too; of earlier releases of transformers. The last one wins.
_OF_PROCESSORS = ("chat_template.json", "processor_config.json")


def load_chat_templates(
    folder: Path,
    config: Mapping[str, Any],
    given: str | None,
    variables: Mapping[str, str],
    content_format: ContentFormat = ContentFormat.AUTO,
) -> ChatTemplates | None:
    """The templates of the model in `folder`; None where it has none (a base model).

    Args:
        config: Its tokenizer_config.json.
        given: In place of what a request chooses: a path to a Jinja file, the name of one of the model's, or
            the template itself.
        variables: The special tokens by name.
        content_format: In which the templates read messages.

    Raises:
        ModelInvalidError: A file is missing or damaged.
    """
    if given is None:
        sources = _own_sources(folder, config)
    else:
        sources = {"default": _given_source(given, folder, config)}
    if not sources:
        return None
    # Others are never chosen, so they need not even parse.
    used = {name: sources[name] for name in ChatTemplates.NAMES if name in sources}
    return ChatTemplates(
        {
            name: ChatTemplate(source, variables, origin, content_format)
            for name, (source, origin) in used.items()
        },
        known=sorted(sources),
    )


def _own_sources(folder: Path, config: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Source and origin by name; files of their own win over tokenizer_config.json, and that over what a
    processor has."""
    sources: dict[str, tuple[str, str]] = {}
    for name in _OF_PROCESSORS:
        sources |= _named(read_json_object_if_any(folder / name).get("chat_template"), name)
    sources |= _named(config.get("chat_template"), "tokenizer_config.json")
    files = {path.stem: path for path in (folder / "additional_chat_templates").glob("*.jinja")}
    own = folder / "chat_template.jinja"
    if own.is_file():
        files["default"] = own
    if files:  # as transformers has it, they are then all that there is
        sources = {
            name: (_read(path), str(path.relative_to(folder))) for name, path in files.items()
        }
    return sources


def _named(template: object, origin: str) -> dict[str, tuple[str, str]]:
    if isinstance(template, str):
        return {"default": (template, origin)}
    if isinstance(template, list):
        template = {
            entry["name"]: entry.get("template")
            for entry in template
            if isinstance(entry, dict) and "name" in entry
        }
    if not isinstance(template, dict):
        return {}
    return {
        str(name): (source, f"{name} in {origin}")
        for name, source in template.items()
        if isinstance(source, str)
    }


def _given_source(given: str, folder: Path, config: Mapping[str, Any]) -> tuple[str, str]:
    if "\n" in given or "{" in given:
        return given, "the given template"
    path = Path(given)
    if os.path.isfile(path):  # noqa: PTH113 (`Path` raises for a text too long for a name)
        # By its name alone: errors that clients read tell it, and the server's folders are not theirs.
        return _read(path), path.name
    own = _own_sources(folder, config)
    if given in own:
        return own[given]
    names = f", nor a template of the model's ({', '.join(sorted(own))})" if own else ""
    raise ModelInvalidError(
        f"--chat-template {given}: there is no such file{names}, and it is no Jinja template."
    )


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelInvalidError(
            f"The chat template {path} cannot be read: {error}. Mend it, or give another with "
            "--chat-template."
        ) from error
