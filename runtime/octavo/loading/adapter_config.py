"""Adapter configuration: PEFT's adapter_config.json, of which every field that may change a result is read or
refused by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.json_files import read_json_object

CONFIG_NAME = "adapter_config.json"

_T = TypeVar("_T")
_MOST_ALPHA = 2.0**48
_MERGE = "Merge the adapter into its base model (PEFT's merge_and_unload) and serve that"
# Read here, or of no meaning once an adapter is trained: its tensors say which modules it changes.
_KNOWN = frozenset(
    {
        *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"),
        *("bias", "init_lora_weights", "use_dora", "lora_bias", "modules_to_save"),
        *("auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("lora_dropout", "fan_in_fan_out", "megatron_config", "megatron_core", "runtime_config"),
        *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "peft_version"),
        *("qalora_group_size", "ensure_weight_tying"),
    }
)
# Others take a part out of the base model's own weights when a training begins.
_KEEPS_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
# PEFT reads patterns as regular expressions; those that it writes are names, which end a module's.
_PLAIN_PATTERN = re.compile(r"\^?[A-Za-z0-9_.]+")
# The first number in a module's path is its layer's, where nothing else says which (layers_pattern).
_LAYER = re.compile(r".*?\.[^.]*\.(?P<index>\d+)\.")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """How much of its product an adapter adds.

    Args:
        rank: Of the modules that `ranks` does not name.
        alpha: As `rank`, of `alphas`.
        is_rank_stabilised: The product is divided by the rank's root (rsLoRA, Kalajdzievski, 2023), else by
            the rank.
        targets: What modules end with that it changes; None: not told by names.
        excluded: What modules end with that it leaves alone, though they are targets.
        layers: In which layers alone its targets are; None: in all, or not told by numbers.
    """

    rank: int
    alpha: float
    is_rank_stabilised: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    targets: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    layers: frozenset[int] | None = None

    def is_target(self, module: str) -> bool:
        """Whether PEFT would change it: what is no target is left out when the adapter is loaded there."""
        if _is_named(module, self.excluded):
            return False
        if self.targets is None or module in self.targets:
            return True
        return _is_named(module, self.targets) and self._is_in_layers(module)

    def _is_in_layers(self, module: str) -> bool:
        if self.layers is None:
            return True
        found = _LAYER.match(module)
        return found is not None and int(found["index"]) in self.layers

    def rank_of(self, module: str) -> int:
        return _of_pattern(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        rank, alpha = self.rank_of(module), _of_pattern(self.alphas, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Raises `ModelInvalidError` for a file that is missing or damaged, `ModelUnsupportedError` for what is
    not implemented."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise ModelInvalidError(
            f"{folder} holds no {CONFIG_NAME}. Give the folder that PEFT's save_pretrained wrote."
        )
    raw = read_json_object(path)
    _refuse(path, raw)

    def is_rank(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0

    def is_number(value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return abs(value) <= _MOST_ALPHA  # no NaN either

    return AdapterConfig(
        rank=_one(path, raw, "r", 8, is_rank, "a positive integer"),
        alpha=_one(path, raw, "lora_alpha", 8, is_number, "a number of at most 2^48"),
        is_rank_stabilised=_flag(path, raw, "use_rslora"),
        ranks=_patterns(path, raw, "rank_pattern", is_rank, "positive integers"),
        alphas=_patterns(path, raw, "alpha_pattern", is_number, "numbers of at most 2^48"),
        targets=_names(path, raw, "target_modules"),
        excluded=_names(path, raw, "exclude_modules") or (),
        layers=_layers(path, raw),
    )


def _refuse(path: Path, raw: Mapping[str, Any]) -> None:
    kind = raw.get("peft_type")
    if kind != "LORA":
        raise ModelUnsupportedError(
            f"{path}: peft_type is {kind!r:.60}; adapters are read that are LORA."
        )

    def refuse(name: str, why: str, instead: str = _MERGE) -> None:
        raise ModelUnsupportedError(f"{path}: {name} is {raw[name]!r:.80}: {why}. {instead}.")

    if raw.get("alora_invocation_tokens"):
        refuse(
            "alora_invocation_tokens",
            "an activated LoRA changes what follows these tokens alone, which is not implemented, and no "
            "merge does",
            "Serve it elsewhere, or train a plain LoRA",
        )

    if _flag(path, raw, "use_dora"):
        refuse("use_dora", "DoRA scales the base model's weights too, which is not implemented")
    if raw.get("bias", "none") != "none":
        refuse("bias", "biases of an adapter are not implemented")
    if _flag(path, raw, "lora_bias"):
        refuse("lora_bias", "biases of an adapter are not implemented")
    if raw.get("modules_to_save"):
        refuse("modules_to_save", "whole modules of an adapter are not implemented")
    start = raw.get("init_lora_weights", True)
    if start not in _KEEPS_BASE:
        refuse(
            "init_lora_weights",
            "such an adapter belongs to a base model whose weights its training changed, unless it was "
            "converted when it was saved (then set this to true)",
        )
    for name, value in raw.items():
        if name not in _KNOWN and value not in (None, False, "", [], {}):
            refuse(name, "it may change what the adapter computes, and is not implemented")


def _one(
    path: Path,
    raw: Mapping[str, Any],
    name: str,
    default: int,
    is_right: Callable[[object], bool],
    words: str,
) -> Any:
    value = raw.get(name, default)
    if not is_right(value):
        raise ModelInvalidError(f"{path}: {name} is {value!r:.60}; it must be {words}.")
    return value


def _names(path: Path, raw: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """A text is a regular expression, or stands for all linear modules."""
    found = raw.get(name)
    if not found or isinstance(found, str):
        return None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ModelInvalidError(
            f"{path}: {name} is {found!r:.80}; it must be a list of names of modules, or a text."
        )
    return tuple(found)


def _layers(path: Path, raw: Mapping[str, Any]) -> frozenset[int] | None:
    found = raw.get("layers_to_transform")
    if found is None or found == []:
        return None
    layers = found if isinstance(found, list) else [found]
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in layers):
        raise ModelInvalidError(
            f"{path}: layers_to_transform is {found!r:.80}; it must be numbers of layers."
        )
    return None if raw.get("layers_pattern") else frozenset(layers)


def _flag(path: Path, raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        raise ModelInvalidError(f"{path}: {name} is {value!r:.60}; it must be true or false.")
    return bool(value)


def _patterns(
    path: Path,
    raw: Mapping[str, Any],
    name: str,
    is_right: Callable[[object], bool],
    words: str,
) -> dict[str, Any]:
    found = raw.get(name) or {}
    if not isinstance(found, dict) or not all(map(is_right, found.values())):
        raise ModelInvalidError(f"{path}: {name} is {found!r:.80}; it must map modules to {words}.")
    for pattern in found:
        if not _PLAIN_PATTERN.fullmatch(pattern):
            raise ModelUnsupportedError(
                f"{path}: {name} holds {pattern!r:.80}: regular expressions are not implemented in keys. "
                f"{_MERGE}, or name the modules, as in layers.0.self_attn.q_proj."
            )
    return found


def _of_pattern(patterns: Mapping[str, _T], module: str, default: _T) -> _T:
    for pattern, value in patterns.items():
        name = pattern.removeprefix("^")
        is_end = pattern == name and module.endswith(f".{name}")
        if module == name or is_end:
            return value
    return default


def _is_named(module: str, names: Iterable[str]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in names)
