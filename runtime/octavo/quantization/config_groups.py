"""Config groups of compressed-tensors: which modules' weights are quantised, and how.

A group names its modules by their names, by regular expressions (`re:`) or by their class, of which `Linear`
alone is a product's. The nearest counts: a name before an expression before a class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.kernels.fp4 import MXFP4_GROUP
from octavo.kernels.reference.weight_only import Code
from octavo.kernels.scaled_weight import RoundedInputs
from octavo.quantization.scales import PER_OUTPUT, PER_TENSOR, Spread
from octavo.quantization.stored_fields import group_of, read_fields, refused

FORMATS = (
    "pack-quantized",
    "float-quantized",
    "int-quantized",
    "naive-quantized",
    "mxfp4-pack-quantized",
)
_PATH = "config.json: quantization_config.config_groups"
_EXPRESSION = "re:"
# What results are rounded to elsewhere, and how scales were found.
_HARMLESS = frozenset({"output_activations"})
_WEIGHTS_HARMLESS = frozenset({"observer", "observer_kwargs", "scale_dtype", "zp_dtype"})
_REORDERED = ("group", "dynamic", "True")
_IN_ORDER = ("weight", "static", "False", "None")


class _Group(msgspec.Struct):
    targets: list[str]
    weights: dict[str, Any] | None = None
    input_activations: dict[str, Any] | None = None
    format: str | None = None


class _Weights(msgspec.Struct):
    num_bits: int = 8
    type: str = "int"
    symmetric: bool = True
    group_size: int | None = None
    strategy: str | None = None
    block_structure: list[int] | str | None = None
    dynamic: bool | str = False
    actorder: bool | str | None = None


@dataclass(frozen=True, slots=True)
class WeightSettings:
    """Of one module.

    Args:
        code: What holds its numbers here.
        bits: Of a number as it is stored.
        spread: Numbers that share a scale.
        has_zeros: Else zero is 0.
        is_reordered: Whether a group's inputs lie apart.
        inputs: How activations are rounded to FP8; None: they are not.
    """

    code: Code
    bits: int
    spread: Spread
    has_zeros: bool = False
    is_reordered: bool = False
    inputs: RoundedInputs | None = None


@dataclass(frozen=True, slots=True)
class ConfigGroup:
    targets: tuple[str, ...]
    settings: WeightSettings


def read_groups(raw: Mapping[str, Any]) -> tuple[ConfigGroup, ...]:
    """Those whose weights are quantised.

    Raises `ModelInvalidError` and `ModelUnsupportedError`.
    """
    groups = []
    for key, value in raw.items():
        path = f"{_PATH}.{key}"
        if not isinstance(value, dict):
            raise ModelInvalidError(f"{path} is {value!r:.60}; it must be an object.")
        group = read_fields(value, _Group, _HARMLESS, path)
        if group.weights is None:
            continue
        if group.format is not None:
            check_format(group.format, path)
        for target in group.targets:
            check_pattern(target, f"{path}.targets")
        settings = replace(_settings(group.weights, path), inputs=_inputs(group.input_activations))
        groups.append(ConfigGroup(tuple(group.targets), settings))
    return tuple(groups)


def settings_for(name: str, groups: tuple[ConfigGroup, ...]) -> WeightSettings | None:
    """Those of the module's group; None where it is in none.

    Raises `ModelUnsupportedError` where two expressions say that it is in different ones.
    """
    for is_meant in (_is_named, _is_matched, _is_of_class):
        found = {
            group.settings: None
            for group in groups
            if any(is_meant(name, one) for one in group.targets)
        }
        if len(found) > 1:
            raise ModelUnsupportedError(
                f"{_PATH}: targets of two groups with different weights match {name}, and which one counts "
                "is not known. Make each module match one."
            )
        if found:
            return next(iter(found))
    return None


def is_in(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns is the module's name, or an expression that matches it."""
    return any(_is_named(name, one) or _is_matched(name, one) for one in patterns)


def check_format(name: str, path: str) -> None:
    if name not in FORMATS:
        raise refused("format", name, ", ".join(FORMATS), path)


def check_pattern(pattern: str, path: str) -> None:
    """Raises `ModelInvalidError` where it is an expression and none of Python's."""
    if not pattern.startswith(_EXPRESSION):
        return
    try:
        re.compile(pattern.removeprefix(_EXPRESSION))
    except re.error as error:
        raise ModelInvalidError(f"{path}: {pattern} is no regular expression: {error}.") from error


def _is_named(name: str, target: str) -> bool:
    return name == target


def _is_matched(name: str, target: str) -> bool:
    if not target.startswith(_EXPRESSION):
        return False
    return re.match(target.removeprefix(_EXPRESSION), name) is not None


def _is_of_class(_: str, target: str) -> bool:
    return target == "Linear"


def _settings(raw: Mapping[str, Any], path: str) -> WeightSettings:
    path = f"{path}.weights"
    fields = read_fields(raw, _Weights, _WEIGHTS_HARMLESS, path)
    if fields.dynamic is not False:
        raise refused("dynamic", fields.dynamic, "false, of weights", path)
    code = _code(fields, path)
    actorder = str(fields.actorder)
    if actorder not in (*_REORDERED, *_IN_ORDER):
        raise refused("actorder", fields.actorder, "group, weight or null", path)
    if code in (Code.FLOAT8, Code.MXFP4) and not fields.symmetric:
        raise refused("symmetric", False, "true with type float", path)
    return WeightSettings(
        code, fields.num_bits, _spread(fields, path), not fields.symmetric, actorder in _REORDERED
    )


def _inputs(raw: dict[str, Any] | None) -> RoundedInputs | None:
    """What is none of these is left as it is. One scale that is made for all rows of a step would make a
    token's numbers depend on its neighbours': each row has its own."""
    if raw is None or str(raw.get("type")).lower() != "float" or raw.get("num_bits") != 8:
        return None
    size = raw.get("group_size")
    usual = "tensor" if size is None else "group"
    strategy = str(raw.get("strategy") or usual).lower()
    if raw.get("symmetric") is False:
        return None
    if raw.get("dynamic") is True:
        if strategy in ("token", "tensor"):
            return RoundedInputs()
        is_group = strategy == "group" and isinstance(size, int) and size > 0
        return RoundedInputs(size) if is_group else None
    is_one = raw.get("dynamic", False) is False and strategy == "tensor"
    return RoundedInputs(is_static=True) if is_one else None


def _code(fields: _Weights, path: str) -> Code:
    kind = fields.type.lower()
    if kind == "float":
        if fields.num_bits == 4 and (fields.strategy, fields.group_size) == ("group", MXFP4_GROUP):
            return Code.MXFP4
        if fields.num_bits != 8:
            allowed = f"8, or 4 with strategy group of {MXFP4_GROUP}, with type float"
            raise refused("num_bits", fields.num_bits, allowed, path)
        return Code.FLOAT8
    if kind != "int":
        raise refused("type", fields.type, "int or float", path)
    if not 2 <= fields.num_bits <= 8:
        raise refused("num_bits", fields.num_bits, "2 to 8 with type int", path)
    return Code.of_bits(fields.num_bits)


def _spread(fields: _Weights, path: str) -> Spread:
    size = None if fields.group_size is None else group_of(fields.group_size, path)
    strategy = fields.strategy
    if strategy is None:
        strategy = "tensor" if fields.group_size is None else "channel" if size is None else "group"
    strategy = strategy.lower()
    if strategy == "tensor":
        return PER_TENSOR
    if strategy == "channel":
        return PER_OUTPUT
    if strategy == "group" and size is not None:
        return Spread(1, size)
    if strategy == "block":
        return Spread(*_block(fields.block_structure, path))
    raise refused("strategy", strategy, "tensor, channel, group with group_size, or block", path)


def _block(structure: list[int] | str | None, path: str) -> tuple[int, int]:
    sizes: list[Any] = structure.split("x") if isinstance(structure, str) else structure or []
    if len(sizes) == 2 and all(str(size).isdecimal() and int(size) > 0 for size in sizes):
        return int(sizes[0]), int(sizes[1])
    raise ModelInvalidError(
        f"{path}.block_structure is {structure!r:.60}; with strategy block it must be two positive integers, "
        "of outputs and inputs."
    )
