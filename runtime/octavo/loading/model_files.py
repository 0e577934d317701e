"""Model files: what of a repository or a bucket is fetched so that its model can be served.

Repositories hold a model several times over: shards and a consolidated copy, `original/`, `onnx/`, pickles,
a trainer's checkpoints. Fetched is what a load would read: the chosen weights, the configuration, the
tokenizer, its chat templates, and what an embedder says of its pooling. Never code, never pickle.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from octavo.json_files import json_object
from octavo.loading.checkpoint_files import CONFIG_NAME, Listing, choose_weight_files
from octavo.loading.tokenizer_files import is_tokenizer_file, no_tokenizer

MODULES_NAME = "modules.json"
_ALWAYS = (
    "config.json",
    "generation_config.json",
    # How weights were quantised, where config.json does not say so.
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",  # may hold the chat template
    "additional_chat_templates/*.jinja",
    # Of sentence-transformers.
    MODULES_NAME,
    "sentence_*_config.json",
    "config_sentence_transformers.json",
)


def needed_files(paths: Iterable[str], read: Callable[[str], bytes], place: str) -> list[str]:
    """Those of `paths` that are to be fetched, sorted.

    Args:
        paths: All files, relative to the model's folder, with `/` between folders.
        read: The content of one of them; called for config.json, the index and modules.json alone.
        place: URL, for messages.

    Raises:
        ModelInvalidError: As `choose_weight_files`, or config.json is no JSON, or there is no tokenizer.json
            where there must be one: what cannot be loaded is not fetched.
    """
    there = frozenset(paths)
    top = frozenset(path for path in there if "/" not in path)
    read = functools.cache(read)  # what weights are chosen by is looked at here, too
    config = json_object(read(CONFIG_NAME), f"{place}/{CONFIG_NAME}")
    weights = choose_weight_files(Listing(place, top, read))
    wanted = set(weights.names) | ({weights.index} if weights.index else set())
    wanted |= {path for path in there if any(_is_match(path, one) for one in _ALWAYS)}
    tokenizers = {path for path in top if is_tokenizer_file(path)}
    if not tokenizers and not _is_head(config):
        raise no_tokenizer(place, top)
    wanted |= tokenizers
    if MODULES_NAME in top:
        for folder in _module_folders(read(MODULES_NAME)):
            wanted |= {f"{folder}/config.json", f"{folder}/model.safetensors"} & there
    return sorted(wanted)


def _is_head(config: dict[str, Any]) -> bool:
    """Whether it guesses for another model (speculative decoding), whose tokenizer it has."""
    architectures = config.get("architectures") or ()
    try:
        return "speculators_config" in config or any("Eagle3" in str(one) for one in architectures)
    except TypeError:
        return False  # whoever reads the configuration says what is wrong with it


def _is_match(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)


def _module_folders(modules: bytes) -> list[str]:
    """Of the steps behind the model itself, such as `1_Pooling`."""
    try:
        steps = json.loads(modules)
        folders = [step["path"] for step in steps]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []  # whoever serves the embedder says what is wrong with it
    # As a path of the repository has it: `./1_Pooling/` is written too.
    paths = [PurePosixPath(folder) for folder in folders if isinstance(folder, str)]
    return [str(path) for path in paths if path.parts and ".." not in path.parts]
