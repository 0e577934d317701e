"""Text options of an embedder: its longest text and whether it lowers case, in sentence_bert_config.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import ModelInvalidError

# sentence-transformers' own order: the first that is there counts.
_NAMES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


@dataclass(frozen=True, slots=True)
class TextOptions:
    """`max_tokens`: None where the folder sets no limit of its own; special tokens count."""

    max_tokens: int | None = None
    lowers_case: bool = False


def read_text_options(folder: Path) -> TextOptions:
    """Raises `ModelInvalidError` for a damaged file."""
    path = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if path is None:
        return TextOptions()
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
    return TextOptions(limit, bool(lowers))
