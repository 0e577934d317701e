"""Formats of quantised checkpoints: which are implemented, by the `quant_method` that config.json names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from octavo.errors import ModelUnsupportedError
from octavo.quantization.awq import Awq
from octavo.quantization.compressed_tensors import CompressedTensors
from octavo.quantization.fp8 import Fp8
from octavo.quantization.gptq import Gptq
from octavo.quantization.mxfp4 import Mxfp4
from octavo.quantization.stored import StoredFormat

_FORMATS: Mapping[str, Callable[[Mapping[str, Any]], StoredFormat]] = {
    Awq.method: Awq.of,
    CompressedTensors.method: CompressedTensors.of,
    Fp8.method: Fp8.of,
    "fbgemm_fp8": Fp8.of_fbgemm,
    Gptq.method: Gptq.of,
    Mxfp4.method: Mxfp4.of,
}
_ROUND_AT_LOAD = "Use the 16-bit checkpoint, which --quantization int8 or int4 rounds as it is read"
# What to do instead, where that is not to look for another checkpoint.
_ADVICE = {
    "bitsandbytes": _ROUND_AT_LOAD,
    "gguf": "Use the model's safetensors",
    "hqq": _ROUND_AT_LOAD,
    "quanto": _ROUND_AT_LOAD,
    "eetq": _ROUND_AT_LOAD,
}


def stored_format(raw: Mapping[str, Any]) -> StoredFormat:
    """The format of a checkpoint, by its `quantization_config`.

    Raises `ModelInvalidError` for fields of the wrong type and `ModelUnsupportedError` for what is not
    implemented or not known.
    """
    method = raw.get("quant_method")
    if method is None and (raw.get("load_in_4bit") or raw.get("load_in_8bit")):
        method = "bitsandbytes"
    read = _FORMATS.get(str(method).lower())
    if read is None:
        advice = _ADVICE.get(
            str(method).lower(), "Use the model's 16-bit checkpoint, or one in such a format"
        )
        raise ModelUnsupportedError(
            f"config.json: quantization_config.quant_method is {method!r:.60}; implemented are "
            f"{', '.join(_FORMATS)}. {advice}."
        )
    return read(raw)
