"""End tokens: those that end an answer, from all the places where a checkpoint names them.

config.json and generation_config.json name ids, the tokenizer an end of sequence, and the chat template
writes a token behind an assistant's message. A model was trained to end with one of them, and hardly any
checkpoint names it everywhere: with one place alone, some models go on to the limit of their length.
"""

from __future__ import annotations

from pathlib import Path

from octavo.errors import ModelInvalidError
from octavo.generation_config import FILE_NAME, generation_config_file
from octavo.json_files import read_json_object_if_any
from octavo.tokenizer import Tokenizer

_FIELD = "eos_token_id"
# Of a checkpoint that sees or hears, too: its text model's own config.json, in the whole's.
_OF_TEXT = "text_config"


def find_end_tokens(
    model_folder: Path, generation_config: str, tokenizer: Tokenizer
) -> tuple[int, ...]:
    """Ids of the tokens that end an answer unless its request ignores them, each once.

    Args:
        generation_config: The choice of `--generation-config`. What the model's own file names holds
            whatever is chosen, and a chosen one adds to it.

    Raises:
        ModelInvalidError: A file names something that is no token id.
    """
    files = (
        model_folder / "config.json",
        model_folder / FILE_NAME,
        generation_config_file(model_folder, generation_config),
    )
    named = (token_id for path in dict.fromkeys(files) for token_id in _read(path))
    return tuple(dict.fromkeys((*named, *tokenizer.end_token_ids)))


def _read(path: Path) -> list[int]:
    raw = read_json_object_if_any(path)
    found = _token_ids(f"{path}: {_FIELD}", raw.get(_FIELD))
    text = raw.get(_OF_TEXT)
    if isinstance(text, dict):
        found = [*found, *_token_ids(f"{path}: {_OF_TEXT}.{_FIELD}", text.get(_FIELD))]
    return found


def _token_ids(place: str, value: object) -> list[int]:
    found: list[int] = []
    for token_id in value if isinstance(value, list) else [] if value is None else [value]:
        if not isinstance(token_id, int) or isinstance(token_id, bool) or token_id < 0:
            raise ModelInvalidError(
                f"{place} is {value!r:.200}; it must be a token id or a list of token ids."
            )
        found.append(token_id)
    return found
