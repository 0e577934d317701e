"""Checkpoint files: which files of a folder, a repository or a bucket hold the model's weights.

Beside them lie copies in other formats, adapters, optimiser states and what somebody kept from last week; a
tensor read from one of those is wrong in silence. So the choice is made here alone, by names, and is that of
transformers and vLLM wherever the two agree: the index, else `model.safetensors`, else complete shards.
Everything else is left alone. It works on a listing, so that a download fetches what a load would read.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import ModelInvalidError

_log = logging.getLogger(__name__)

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
_SUFFIX = ".safetensors"
_INDEX_SUFFIX = ".safetensors.index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)")
# Weights that lie beside a model's and are not the model, by how their names begin.
_NOT_THE_MODEL = {
    "adapter": "an adapter, which needs its base model: merge the two first",
    "consolidated": "the publisher's own layout of tensors: take the repository in transformers' "
    "layout, or convert it",
    "optimizer": "the state of a training",
    "training": "the state of a training",
}
_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_OTHER_FORMATS = {
    ".bin": "pickle",
    ".pt": "pickle",
    ".pth": "pickle",
    ".ckpt": "pickle",
    ".gguf": "GGUF",
    ".h5": "TensorFlow",
    ".msgpack": "Flax",
}
_MAX_NAMES_IN_MESSAGE = 5


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The choice: names beside config.json.

    Attributes:
        names: Sorted; all of them are there.
        index: The file that names them, if there is one.
        warning: What a person should know who expected another choice; None where there is no other.
    """

    names: tuple[str, ...]
    index: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one folder, wherever it is.

    Args:
        place: Folder or URL, for messages.
        names: Without subfolders.
        read: The content of one of them; called for config.json and the index alone.
    """

    place: str
    names: frozenset[str]
    read: Callable[[str], bytes]


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of the model in `folder`; an unusual choice is logged.

    Raises: as `choose_weight_files`.
    """
    names = frozenset(path.name for path in folder.iterdir() if path.is_file())
    chosen = choose_weight_files(
        Listing(str(folder), names, lambda name: (folder / name).read_bytes())
    )
    if chosen.warning:
        _log.warning("%s: %s", folder, chosen.warning)
    return [folder / name for name in chosen.names]


def choose_weight_files(listing: Listing) -> WeightFiles:
    """The choice among the files of `listing`.

    Raises:
        ModelInvalidError: There are no safetensors, a file is missing, nothing tells which are the model, or
            there is an adapter beside it.
    """
    chosen = _choice(listing)
    _refuse_adapter(listing)
    return chosen


def has_weights(folder: Path) -> bool:
    """Whether anything there is, or tells of, a model's weights, in whatever format and however damaged."""
    suffixes = (_SUFFIX, _INDEX_SUFFIX, *_OTHER_FORMATS)
    return any(path.name.endswith(suffixes) for path in folder.iterdir())


def _choice(listing: Listing) -> WeightFiles:
    stated = _stated_in_config(listing)
    if stated is not None:
        return _stated(listing, stated)
    if INDEX_NAME in listing.names:
        return _main_index(listing)
    if WEIGHTS_NAME in listing.names:
        return WeightFiles((WEIGHTS_NAME,))
    checkpoints = _checkpoints(listing)
    if "model" in checkpoints:
        return WeightFiles(_complete(listing, checkpoints["model"]))
    return _under_another_name(listing, checkpoints)


def _refuse_adapter(listing: Listing) -> None:
    """transformers puts one that lies beside the model onto it where PEFT is installed, and else does not."""
    adapter = [name for name in _ADAPTER_WEIGHTS if name in listing.names]
    if adapter and _ADAPTER_CONFIG in listing.names:
        raise ModelInvalidError(
            f"{listing.place} holds a model and an adapter ({_shown([_ADAPTER_CONFIG, *adapter])}), and "
            "nothing tells whether the model's weights contain it. In a copy of the folder, remove the "
            "adapter's files if they do; else move them into a folder of their own, and serve that with "
            "--lora-modules."
        )


def _stated_in_config(listing: Listing) -> str | None:
    """`transformers_weights`, by which a publisher may name the file or index."""
    if CONFIG_NAME not in listing.names:
        return None
    try:
        stated = json.loads(listing.read(CONFIG_NAME)).get("transformers_weights")
    except (ValueError, AttributeError, RecursionError):
        return None  # whoever reads the configuration says what is wrong with it
    return None if stated is None else str(stated)


def _stated(listing: Listing, name: str) -> WeightFiles:
    if name not in listing.names or not name.endswith((_SUFFIX, _INDEX_SUFFIX)):
        raise ModelInvalidError(
            f"{listing.place}: config.json's transformers_weights is {name!r:.200}, which is no "
            f"safetensors file or index beside it. {_again(listing)}, or correct config.json."
        )
    return _index(listing, name) if name.endswith(_INDEX_SUFFIX) else WeightFiles((name,))


def _main_index(listing: Listing) -> WeightFiles:
    named = _names_in_index(listing, INDEX_NAME)
    has_whole = WEIGHTS_NAME in listing.names and WEIGHTS_NAME not in named
    if has_whole and listing.names.isdisjoint(named):
        return WeightFiles(
            (WEIGHTS_NAME,),
            warning=f"no file that {INDEX_NAME} names is there, so {WEIGHTS_NAME} is the model.",
        )
    chosen = _index(listing, INDEX_NAME)
    if not has_whole:
        return chosen
    return WeightFiles(
        chosen.names,
        INDEX_NAME,
        f"the model is in the {len(named)} files that {INDEX_NAME} names; {WEIGHTS_NAME} beside them is "
        "not read. Remove whichever is of no more use.",
    )


def _index(listing: Listing, name: str) -> WeightFiles:
    named = _names_in_index(listing, name)
    missing = [one for one in named if one not in listing.names]
    if missing:
        raise ModelInvalidError(
            f"{name} names {_shown(missing)}, which is missing in {listing.place}. {_again(listing)}."
        )
    return WeightFiles(named, name)


def _names_in_index(listing: Listing, index: str) -> tuple[str, ...]:
    try:
        weight_map = json.loads(listing.read(index))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelInvalidError(
            f"{listing.place}/{index} is damaged: {error!r}. {_again(listing)}."
        ) from error
    for name in names:
        if not isinstance(name, str) or not name.endswith(_SUFFIX) or "/" in name or "\\" in name:
            raise ModelInvalidError(
                f"{listing.place}/{index} names {name!r:.200}, which is not a safetensors file beside it."
            )
    if not names:
        raise ModelInvalidError(f"{listing.place}/{index} names no file. {_again(listing)}.")
    return tuple(names)


def _again(listing: Listing) -> str:
    """What helps where files are missing or damaged: not another download of what is published so."""
    return "Use another revision" if "://" in listing.place else "Download the model again"


def _checkpoints(listing: Listing) -> dict[str, list[str]]:
    """Files by what is left of their name without suffix and number."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(listing.names):
        if name.endswith(_SUFFIX) and not name.startswith("."):
            stem = name.removesuffix(_SUFFIX)
            shard = _SHARD.fullmatch(stem)
            found[shard["stem"] if shard else stem].append(name)
    return dict(found)


def _complete(listing: Listing, names: list[str]) -> tuple[str, ...]:
    """Shards without an index say themselves how many they are."""
    shards = [_SHARD.fullmatch(name.removesuffix(_SUFFIX)) for name in names]
    counts = {shard["count"] for shard in shards if shard}
    if None in shards or len(counts) != 1:
        raise ModelInvalidError(
            f"{listing.place} holds {_shown(names)}, which are not shards of one checkpoint, and no "
            f"{INDEX_NAME} that chooses among them. Remove those that are not the model."
        )
    (count,) = counts
    there = {int(shard["number"]) for shard in shards if shard}
    missing = [number for number in range(1, int(count) + 1) if number not in there]
    if missing or len(names) != int(count):
        raise ModelInvalidError(
            f"{listing.place} holds {len(names)} of {int(count)} shards ({_shown(names)}), and no "
            f"{INDEX_NAME}. {_again(listing)}."
        )
    return tuple(names)


def _under_another_name(listing: Listing, checkpoints: dict[str, list[str]]) -> WeightFiles:
    """vLLM reads whatever safetensors there are: right where they are one checkpoint."""
    others = {
        stem: names
        for stem, names in checkpoints.items()
        if not stem.startswith((*_NOT_THE_MODEL,))
    }
    if not others:
        raise _no_weights(listing, checkpoints)
    if len(others) > 1:
        raise ModelInvalidError(
            f"{listing.place} holds no {INDEX_NAME} and no {WEIGHTS_NAME}, but "
            f"{_shown([name for names in others.values() for name in names])}: nothing tells which of "
            f"them are the model. Rename the right one to {WEIGHTS_NAME}."
        )
    ((stem, names),) = others.items()
    index = stem + _INDEX_SUFFIX
    if index in listing.names:
        chosen = _index(listing, index)
    elif names == [stem + _SUFFIX]:
        chosen = WeightFiles((names[0],))
    else:
        chosen = WeightFiles(_complete(listing, names))
    warning = f"there is no {WEIGHTS_NAME}, so the model is read from {_shown(list(chosen.names))}."
    return WeightFiles(chosen.names, chosen.index, warning)


def _no_weights(listing: Listing, checkpoints: dict[str, list[str]]) -> ModelInvalidError:
    for stem, names in checkpoints.items():
        kind = next(kind for start, kind in _NOT_THE_MODEL.items() if stem.startswith(start))
        return ModelInvalidError(
            f"{listing.place} holds no model, only {_shown(names)}, which is {kind}."
        )
    for suffix, kind in _OTHER_FORMATS.items():
        names = sorted(name for name in listing.names if name.endswith(suffix))
        if names:
            why = "reading it runs code from the file, so it is" if kind == "pickle" else "which is"
            return ModelInvalidError(
                f"{listing.place} holds only {kind} weights ({_shown(names)}); {why} refused. Convert the "
                "model to safetensors first."
            )
    return ModelInvalidError(
        f"{listing.place} holds no *.safetensors weights. Give a model as save_pretrained writes it, with "
        "all of its files."
    )


def _shown(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - _MAX_NAMES_IN_MESSAGE
    rest = f" and {more} more" if more > 0 else ""
    return ", ".join(every[:_MAX_NAMES_IN_MESSAGE]) + rest
