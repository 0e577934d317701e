"""Registry of architectures: which are implemented, by the name that config.json gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from octavo.config import ModelImplementation
from octavo.errors import ModelInvalidError, ModelUnsupportedError, UserError
from octavo.json_files import read_json_object
from octavo.loading.scoring import read_score_function
from octavo.models.base import EncoderConfig, ModelConfig
from octavo.models.config_reader import ConfigReader, UnreadFieldsError
from octavo.models.families import (
    bert,
    bloom,
    falcon,
    gemma2,
    gemma3,
    gpt_neox,
    granite,
    llama,
    mistral,
    mixtral,
    modernbert,
    mpt,
    nomic_bert,
    phi,
    phi3,
    qwen2,
    qwen2_moe,
    qwen3,
    qwen3_moe,
    roberta,
)
from octavo.models.read_encoder_spec import SCORES
from octavo.models.text_part import TEXT_PARTS, text_part

_READERS: Mapping[str, Callable[[ConfigReader], ModelConfig]] = {
    bloom.STEM: bloom.BloomConfig.read,
    falcon.STEM: falcon.FalconConfig.read,
    gemma2.STEM: gemma2.Gemma2Config.read,
    gemma3.STEM: gemma3.Gemma3Config.read,
    gpt_neox.STEM: gpt_neox.GPTNeoXConfig.read,
    granite.STEM: granite.GraniteConfig.read,
    llama.STEM: llama.LlamaConfig.read,
    mistral.STEM: mistral.MistralConfig.read,
    mixtral.STEM: mixtral.MixtralConfig.read,
    **dict.fromkeys(mpt.STEMS, mpt.MptConfig.read),
    phi.STEM: phi.PhiConfig.read,
    phi3.STEM: phi3.Phi3Config.read,
    qwen2.STEM: qwen2.Qwen2Config.read,
    qwen2_moe.STEM: qwen2_moe.Qwen2MoeConfig.read,
    qwen3.STEM: qwen3.Qwen3Config.read,
    qwen3_moe.STEM: qwen3_moe.Qwen3MoeConfig.read,
}
FAMILIES: Mapping[str, Callable[[ConfigReader], ModelConfig]] = {
    f"{stem}ForCausalLM": read for stem, read in _READERS.items()
}
# Saved without a head, to embed. Where text is a part of a model, its class is called so.
_BASE_STEMS = {gemma3.STEM: gemma3.BASE_STEM}
_BASE_CLASSES = {f"{_BASE_STEMS.get(stem, stem)}Model": read for stem, read in _READERS.items()}

# A head of pre-training is not read: what is left embeds.
ENCODERS: Mapping[str, Callable[[ConfigReader], EncoderConfig]] = {
    f"{stem}{kind}": read
    for stem, read in (
        (bert.STEM, bert.BertConfig.read),
        (modernbert.STEM, modernbert.ModernBertConfig.read),
        (nomic_bert.STEM, nomic_bert.NomicBertConfig.read),
        *((stem, roberta.RobertaConfig.read) for stem in roberta.STEMS),
    )
    for kind in ("Model", "ForMaskedLM", "ForSequenceClassification")
}


def read_model_config(
    folder: Path, implementation: ModelImplementation = ModelImplementation.OCTAVO
) -> ModelConfig:
    """Reads config.json.

    Raises `ModelInvalidError` for damaged files and `ModelUnsupportedError` for what is not implemented or
    not known.
    """
    raw = read_json_object(folder / "config.json")
    if not is_native(raw, implementation):
        return _read_generic(folder, raw)
    try:
        return read_config(raw)
    except UnreadFieldsError:
        raise
    except ModelUnsupportedError as error:
        if not _is_read_generically(folder, raw):
            raise
        raise ModelUnsupportedError(
            f"{error} Or use --model-impl transformers, whose modules take this config.json."
        ) from error


def _read_generic(folder: Path, raw: Mapping[str, object]) -> ModelConfig:
    # transformers' modules take seconds to import, and own families do without.
    from octavo.models.from_transformers import own_code_first, read_transformers_config

    has_own_code = _is_read_natively(raw)
    with own_code_first(has_own_code=has_own_code):
        return replace(read_transformers_config(folder, raw), has_own_code=has_own_code)


def _is_read_natively(raw: Mapping[str, object]) -> bool:
    # `is_native` refuses a file that names no class.
    if not is_native(raw, ModelImplementation.AUTO):
        return False
    try:
        read_config(raw)
    except UserError:
        return False
    return True


def _is_read_generically(folder: Path, raw: Mapping[str, object]) -> bool:
    try:
        _read_generic(folder, raw)
    except UserError:
        return False
    return True


def is_native(raw: Mapping[str, object], implementation: ModelImplementation) -> bool:
    """Whether Octavo's own code is to compute the model of this config.json."""
    if implementation is not ModelImplementation.AUTO:
        return implementation is ModelImplementation.OCTAVO
    architecture = _architecture(raw)
    return any(architecture in known for known in (FAMILIES, _BASE_CLASSES, TEXT_PARTS))


def read_config(raw: Mapping[str, object]) -> ModelConfig:
    """As `read_model_config`, of the object alone, by Octavo's own families."""
    architecture = _architecture(raw)
    is_text_part = architecture in TEXT_PARTS
    family = architecture
    if is_text_part:
        family, raw = text_part(architecture, raw)
    read = FAMILIES.get(family) or _BASE_CLASSES.get(family)
    if read is None:
        raise ModelUnsupportedError(
            f"config.json: architecture {architecture!r} is not implemented; implemented are "
            f"{', '.join(sorted((*FAMILIES, *ENCODERS, *TEXT_PARTS)))}."
        )
    reader = ConfigReader(raw)
    config = read(reader)
    reader.refuse_unread()
    return replace(config, is_text_part=True) if is_text_part else config


def read_encoder_config(folder: Path) -> EncoderConfig | None:
    """As `read_model_config`, of an encoder; None where the architecture is none."""
    raw = read_json_object(folder / "config.json")
    architecture = _architecture(raw)
    read = ENCODERS.get(architecture)
    if read is None:
        return None
    function = read_score_function(folder) if architecture.endswith(SCORES) else None
    if function is not None:
        raw = {**raw, "sentence_transformers": {"activation_fn": function}}
    reader = ConfigReader(raw)
    config = read(reader)
    reader.refuse_unread()
    return config


def encoder_named_in(folder: Path) -> str | None:
    """The architecture that config.json names, where that is an encoder's. Raises `ModelInvalidError` for a
    damaged file, and not for one that names nothing."""
    named = read_json_object(folder / "config.json").get("architectures")
    first = str(named[0]) if isinstance(named, list) and named else None
    return first if first in ENCODERS else None


def _architecture(raw: Mapping[str, object]) -> str:
    architectures = raw.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise ModelInvalidError(
            f"config.json: architectures is {architectures!r}; it must name the model's class, such as "
            "LlamaForCausalLM."
        )
    return str(architectures[0])
