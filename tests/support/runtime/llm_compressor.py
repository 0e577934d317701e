"""`quantization_config` of compressed-tensors, as LLM Compressor writes it."""

from __future__ import annotations

from typing import Any

ACTIVATIONS = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}


def weights(bits: int = 4, **fields: Any) -> dict[str, Any]:
    """As LLM Compressor writes them."""
    usual = {"type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    usual |= {"observer": "minmax", "observer_kwargs": {}, "dynamic": False, "actorder": None}
    return {"num_bits": bits, **usual, **fields}


def group(*targets: str, **fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"targets": list(targets or ("Linear",)), "output_activations": None}
    return usual | {"input_activations": None} | fields


def config_of(*groups: dict[str, Any], **fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    usual |= {"ignore": ["lm_head"], "quantization_status": "compressed", "kv_cache_scheme": None}
    return (
        usual | {"config_groups": dict(zip(("group_0", "group_1"), groups, strict=False))} | fields
    )
