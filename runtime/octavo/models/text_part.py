"""Text part of a model that sees or hears, too: its config.json as one of a text model's own would be.

Without an image transformers gives the text model's numbers: positions that count in several dimensions
(Qwen's mrope) are the same in each then, and no mask is other than causal. Images are refused by the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.errors import ModelInvalidError, ModelUnsupportedError

_QWEN_VL = ("qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text")
_LLAVA = ("gemma3_text", "llama", "mistral", "qwen2", "qwen3")
# Of each class, the `model_type`s of text models that it may have.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "Gemma3ForConditionalGeneration": ("gemma3_text",),
    "LlavaForConditionalGeneration": _LLAVA,
    "LlavaNextForConditionalGeneration": _LLAVA,
    "Mistral3ForConditionalGeneration": ("mistral",),
    "Qwen2VLForConditionalGeneration": ("qwen2_vl_text", "qwen2_vl"),
    "Qwen2_5_VLForConditionalGeneration": ("qwen2_5_vl_text", "qwen2_5_vl"),
    "Qwen3VLForConditionalGeneration": ("qwen3_vl_text",),
}
TEXT_PARTS = tuple(_KINDS)
_TEXT_CLASSES = {
    "gemma3_text": "Gemma3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    **dict.fromkeys(_QWEN_VL, "Qwen2ForCausalLM"),
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_vl_text": "Qwen3ForCausalLM",
}
# What transformers' classes mean where a file leaves a field out, as published ones do: sizes, and what the
# class of a text alone means by it otherwise.
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
_OF_SIZES: Mapping[str, tuple[int, int, int, int, int]] = {
    "gemma3_text": (262_208, 2304, 9216, 26, 8),
    "llama": (32_000, 4096, 11_008, 32, 32),
    "mistral": (32_000, 4096, 14_336, 32, 32),
    "qwen2": (151_936, 4096, 22_016, 32, 32),
    **dict.fromkeys(_QWEN_VL, (152_064, 8192, 29_568, 80, 64)),
    "qwen3": (151_936, 4096, 22_016, 32, 32),
    "qwen3_vl_text": (151_936, 4096, 22_016, 32, 32),
}
_OF_QWEN_VL = {
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "max_window_layers": 80,
}
_OTHERWISE: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(_QWEN_VL, _OF_QWEN_VL),
    "qwen3_vl_text": {"rope_theta": 5e5, "max_position_embeddings": 128_000},
}
# Where the text's fields stand beside the others' (Qwen2-VL): those of these.
_OF_OTHERS = (
    "vision_config",
    "image_token_id",
    "image_token_index",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "vision_token_id",
)
_OF_MROPE = ("mrope_section", "mrope_interleaved")


def text_part(architecture: str, raw: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text model's class, and its config.json, which names `architecture` still.

    Args:
        architecture: One of `TEXT_PARTS`.

    Raises `ModelInvalidError`, and `ModelUnsupportedError` for a text model that is not implemented.
    """
    text = raw.get("text_config")
    if text is None:
        text = {name: value for name, value in raw.items() if name not in _OF_OTHERS}
    if not isinstance(text, Mapping):
        raise ModelInvalidError(f"config.json: text_config is {text!r:.60}; it must be an object.")
    if "text_config" in raw:
        _refuse_scaling_beside(raw, text)
    kind, known = str(text.get("model_type")), _KINDS[architecture]
    if kind not in known:
        raise ModelUnsupportedError(
            f"config.json: text_config.model_type is {kind!r}; implemented for {architecture} are "
            f"{', '.join(known)}."
        )
    own = {**_defaults(kind), **text, "architectures": [architecture]}
    _refuse_unlike_alone(own)
    for name in ("dtype", "torch_dtype", "quantization_config"):
        if own.get(name) is None and raw.get(name) is not None:
            own[name] = raw[name]
    # Where nothing says it, a stored head is the model's.
    own["tie_word_embeddings"] = _is_tied(raw, text)
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(own.get(name), Mapping):
            own[name] = _without_mrope(own[name])
    return _TEXT_CLASSES[kind], own


def _refuse_scaling_beside(raw: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """One that somebody wrote where no class reads it: documents of models say so of files without
    `text_config`."""
    for name in ("rope_scaling", "rope_parameters"):
        scaling = raw.get(name)
        if isinstance(scaling, Mapping) and scaling.get("factor") and scaling != text.get(name):
            raise ModelUnsupportedError(
                f"config.json: {name} ({scaling!r:.80}) stands beside text_config, where it is not read. "
                "Move it into text_config, or remove it."
            )


def _refuse_unlike_alone(text: Mapping[str, Any]) -> None:
    """Fields that transformers reads of such a text model alone, and not of one within another model."""
    if text.get("final_logit_softcapping") is not None:
        raise ModelUnsupportedError(
            "config.json: text_config.final_logit_softcapping is "
            f"{text['final_logit_softcapping']!r:.40}; of a model that sees, too, it is not known whether "
            "scores are capped. Implemented is null."
        )
    names = ("layer_types", "sliding_window")
    if text["model_type"] == "mistral" and all(text.get(name) is not None for name in names):
        raise ModelUnsupportedError(
            "config.json: text_config of a mistral has layer_types and sliding_window; which layers have the "
            "window is not known. Remove either."
        )


def _is_tied(raw: Mapping[str, Any], text: Mapping[str, Any]) -> object:
    named = [one["tie_word_embeddings"] for one in (raw, text) if "tie_word_embeddings" in one]
    return any(named) if all(isinstance(one, bool) for one in named) and named else True


def _defaults(kind: str) -> dict[str, Any]:
    return {**dict(zip(_SIZES, _OF_SIZES[kind], strict=True)), **_OTHERWISE.get(kind, {})}


def _without_mrope(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Text has one position, in all dimensions the same: what is left is the rotation of one."""
    kept = {name: value for name, value in rope.items() if name not in _OF_MROPE}
    for name in ("type", "rope_type"):
        if kept.get(name) == "mrope":
            kept[name] = "default"
    return kept
