"""Text options of an embedder: its longest text, whether it lowers case, and the prompts that stand before
texts, as sentence-transformers keeps them beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo.errors import InvalidParameterError, ModelInvalidError, ModelUnsupportedError
from octavo.json_files import read_json_object_if_any
from octavo.loading.pooling import leaves_out_prompts

_NO_LIMIT = int(1e30)  # as transformers writes none
_OPTIONS_NAME = "config_sentence_transformers.json"
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
        truncate_dim: How many of a vector's numbers are kept where nobody asks for `dimensions`; None: all.
    """

    max_tokens: int | None = None
    lowers_case: bool = False
    default_prompt: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    leaves_out_prompts: bool = False
    truncate_dim: int | None = None

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
    options = read_json_object_if_any(folder / _OPTIONS_NAME)
    default, prompts = _prompts(folder, options)
    path = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    raw = {} if path is None else read_json_object_if_any(path)
    name = "" if path is None else path.name
    limit, lowers = _count(raw, "max_seq_length", name), raw.get("do_lower_case")
    if not isinstance(lowers, bool | None):
        raise ModelInvalidError(f"{name}: do_lower_case is {lowers!r}; it must be true or false.")
    return TextOptions(
        _longest_of_tokenizer(folder) if limit is None else limit,
        bool(lowers),
        default,
        prompts,
        leaves_out_prompts(folder),
        _count(options, "truncate_dim", _OPTIONS_NAME),
    )


def _count(raw: Mapping[str, Any], field: str, file: str) -> int | None:
    value = raw.get(field)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ModelInvalidError(f"{file}: {field} is {value!r:.80}; it must be a positive integer.")


def _longest_of_tokenizer(folder: Path) -> int | None:
    """Where sentence-transformers 6 keeps the limit, and earlier ones look next."""
    found = read_json_object_if_any(folder / "tokenizer_config.json").get("model_max_length")
    if not isinstance(found, int) or isinstance(found, bool) or not 0 < found < _NO_LIMIT:
        return None
    return found


def _prompts(folder: Path, raw: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The default one, and all by name."""
    name, given = raw.get("default_prompt_name"), raw.get("prompts") or {}
    named = given.items() if isinstance(given, dict) else ()
    prompts = {each: text for each, text in named if isinstance(text, str)}
    if name is None:
        return "", prompts
    prompt = prompts.get(name) if isinstance(name, str) else None
    if prompt is None:
        raise ModelInvalidError(
            f"{_OPTIONS_NAME}: default_prompt_name is {name!r:.60}, and prompts has no text of that name."
        )
    if prompt and leaves_out_prompts(folder):
        raise ModelUnsupportedError(
            f"{_OPTIONS_NAME}: default_prompt_name is {name!r:.60}, and the pooling leaves prompts out "
            "(include_prompt is false), which is not implemented. Serve a model that pools all tokens."
        )
    return prompt, prompts
