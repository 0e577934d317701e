"""Fields of a quantisation config: typed, and refused by name where what they mean is not known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec

from octavo.errors import ModelInvalidError, ModelUnsupportedError

_Fields = TypeVar("_Fields", bound=msgspec.Struct)
_MAX_NAMES_IN_MESSAGE = 8
_PATH = "config.json: quantization_config"
_CALIBRATION = """
    tokenizer dataset damp_percent damp_auto_increment act_group_aware true_sequential static_groups mse
    model_seqlen block_name_to_quantize module_name_preceding_first_block batch_size pad_token_id
    max_input_length cache_block_outputs duo_scaling apply_clip n_parallel_calib_samples max_calib_samples
    max_calib_seq_len
"""
_NAMING = "quant_method method meta model_name_or_path model_file_base_name"
# What tells others which of their kernels to take.
_KERNELS = """
    use_exllama disable_exllama exllama_config use_cuda_fp16 do_fuse modules_to_fuse fuse_max_seq_len
"""
HARMLESS = frozenset(f"{_CALIBRATION} {_NAMING} {_KERNELS}".split())
"""Fields of AWQ and GPTQ that change no number of what is stored."""


def read_fields(
    raw: Mapping[str, Any], kind: type[_Fields], harmless: Collection[str], path: str = _PATH
) -> _Fields:
    """The fields that `kind` has; null is a missing one.

    Args:
        harmless: Names of fields that change no number, such as how weights were calibrated.
        path: Of the object, for messages.

    Raises `ModelInvalidError` for a field of the wrong type and `ModelUnsupportedError` for one that is not
    known.
    """
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    there = {name: value for name, value in raw.items() if value is not None}
    unknown = sorted(name for name in there if name not in known and name not in harmless)
    if unknown:
        shown = ", ".join(
            f"{name} ({there[name]!r:.60})" for name in unknown[:_MAX_NAMES_IN_MESSAGE]
        )
        raise ModelUnsupportedError(
            f"{path}: what {shown} means is not known, and it may change what the model computes. Remove it "
            "if it does not."
        )
    try:
        return msgspec.convert({name: there[name] for name in there if name in known}, kind)
    except msgspec.ValidationError as error:
        raise ModelInvalidError(f"{path}: {error}.") from error


def refused(name: str, value: object, implemented: str, path: str = _PATH) -> ModelUnsupportedError:
    """The error of a value that is not implemented.

    Args:
        implemented: What is, as the end of a sentence.
    """
    return ModelUnsupportedError(
        f"{path}.{name} is {value!r:.100}; implemented is {implemented}. Use the model's 16-bit checkpoint, "
        "or one that is quantised so."
    )


def group_of(size: int, path: str = _PATH) -> int | None:
    """Inputs that share a scale; None: all, which is stored as -1. Raises `ModelInvalidError`."""
    if size == -1:
        return None
    if size < 1:
        raise ModelInvalidError(
            f"{path}.group_size is {size}; it must be a positive integer, or -1 for all inputs."
        )
    return size
