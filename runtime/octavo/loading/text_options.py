"""Text options of an embedder: its longest text, whether it lowers case, and what stands before each text, as
sentence-transformers keeps them beside the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import ModelInvalidError, ModelUnsupportedError
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
    """

    max_tokens: int | None = None
    lowers_case: bool = False
    default_prompt: str = ""

    def prepared(self, text: str) -> str:
        """As the tokenizer is to get it."""
        whole = self.default_prompt + text
        return whole.lower() if self.lowers_case else whole


def read_text_options(folder: Path) -> TextOptions:
    """Raises `ModelInvalidError` for a damaged file, and `ModelUnsupportedError` for a default prompt that
    the vector is to leave out."""
    prompt = _default_prompt(folder)
    path = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if path is None:
        return TextOptions(default_prompt=prompt)
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
    return TextOptions(limit, bool(lowers), prompt)


def _default_prompt(folder: Path) -> str:
    path = folder / "config_sentence_transformers.json"
    raw = read_json_object_if_any(path)
    name, prompts = raw.get("default_prompt_name"), raw.get("prompts") or {}
    if name is None:
        return ""
    prompt = prompts.get(name) if isinstance(prompts, dict) else None
    if not isinstance(prompt, str):
        raise ModelInvalidError(
            f"{path.name}: default_prompt_name is {name!r:.60}, and prompts has no text of that name."
        )
    if prompt and leaves_out_prompts(folder):
        raise ModelUnsupportedError(
            f"{path.name}: default_prompt_name is {name!r:.60}, and the pooling leaves prompts out "
            "(include_prompt is false), which is not implemented. Serve a model that pools all tokens."
        )
    return prompt
