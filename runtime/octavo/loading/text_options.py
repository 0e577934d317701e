"""Text options of an embedder: its longest text, whether it lowers case, and the prompts that stand before
texts, as sentence-transformers keeps them beside the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from octavo.errors import InvalidParameterError, ModelInvalidError, ModelUnsupportedError
from octavo.json_files import read_json_object_if_any
from octavo.loading.pooling import leaves_out_prompts

# sentence-transformers' own order: the first that is there counts.
_NAMES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


@dataclass(frozen=True, slots=True)
class TextOptions:
    """
    Args:
        max_tokens: None where the folder sets no limit of its own; special tokens count.
        default_prompt: What sentence-transformers puts before every text unless it is told another
            (`default_prompt_name`); mostly nothing.
        prompts: By name, those that it was trained with, such as `query` and `document`.
        leaves_out_prompts: The vector is to be made without the prompt's tokens, which is not implemented.
    """

    max_tokens: int | None = None
    lowers_case: bool = False
    default_prompt: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    leaves_out_prompts: bool = False

    def prompt(self, name: str | None) -> str:
        """What stands before a text: the prompt of this name, or without one the default.

        Raises `InvalidParameterError` for a name that the folder does not have, or a prompt that the vector
        is to leave out.
        """
        if name is None:
            return self.default_prompt
        if name not in self.prompts:
            known = ", ".join(map(repr, sorted(self.prompts))) or "none"
            raise InvalidParameterError(
                "prompt_name",
                f"prompt_name is {name!r:.60}; the model's folder (config_sentence_transformers.json) has "
                f"{known:.500}. Leave it out, or write the prompt before the text.",
            )
        if self.prompts[name] and self.leaves_out_prompts:
            raise InvalidParameterError(
                "prompt_name",
                f"prompt_name is {name!r:.60}, and the model's pooling leaves prompts out (include_prompt is "
                "false), which is not implemented.",
            )
        return self.prompts[name]

    def prepared(self, text: str, prompt: str | None = None) -> str:
        """As the tokenizer is to get it.

        Args:
            prompt: Stands before it; None: the default.
        """
        whole = (self.default_prompt if prompt is None else prompt) + text
        return whole.lower() if self.lowers_case else whole


def read_text_options(folder: Path) -> TextOptions:
    """Raises `ModelInvalidError` for a damaged file, and `ModelUnsupportedError` for a default prompt that
    the vector is to leave out."""
    default, prompts = _prompts(folder)
    leaves_out = leaves_out_prompts(folder)
    path = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if path is None:
        return TextOptions(default_prompt=default, prompts=prompts, leaves_out_prompts=leaves_out)
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelInvalidError(f"{path} cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise ModelInvalidError(f"{path} holds a {type(raw).__name__}, not an object.")
    limit, lowers = raw.get("max_seq_length"), raw.get("do_lower_case")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise ModelInvalidError(
            f"{path.name}: max_seq_length is {limit!r}; it must be a positive integer."
        )
    if not isinstance(lowers, bool | None):
        raise ModelInvalidError(
            f"{path.name}: do_lower_case is {lowers!r}; it must be true or false."
        )
    return TextOptions(limit, bool(lowers), default, prompts, leaves_out)


def _prompts(folder: Path) -> tuple[str, dict[str, str]]:
    """The default one, and all by name."""
    path = folder / "config_sentence_transformers.json"
    raw = read_json_object_if_any(path)
    name, given = raw.get("default_prompt_name"), raw.get("prompts") or {}
    named = given.items() if isinstance(given, dict) else ()
    prompts = {each: text for each, text in named if isinstance(text, str)}
    if name is None:
        return "", prompts
    prompt = prompts.get(name) if isinstance(name, str) else None
    if prompt is None:
        raise ModelInvalidError(
            f"{path.name}: default_prompt_name is {name!r:.60}, and prompts has no text of that name."
        )
    if prompt and leaves_out_prompts(folder):
        raise ModelUnsupportedError(
            f"{path.name}: default_prompt_name is {name!r:.60}, and the pooling leaves prompts out "
            "(include_prompt is false), which is not implemented. Serve a model that pools all tokens."
        )
    return prompt, prompts
