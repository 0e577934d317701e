"""Tokenizer classes of transformers, by which a checkpoint's files are to be read.

Most name one that runs tokenizer.json as it stands. Some name one that makes normaliser, pre-tokeniser and
decoder itself, by fields of tokenizer_config.json, and takes of tokenizer.json only the vocabulary. Which one
it is depends on config.json too; the choice here is that of `AutoTokenizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.errors import ModelUnsupportedError
from octavo.tokenizer.built_classes import CLASSES
from octavo.tokenizer.model_types import NAMED_WRONG, OF_MODEL_TYPES

AS_IT_STANDS = "TokenizersBackend"
"""Reads tokenizer.json whole."""
_OF_LLAMA = "LlamaTokenizer"
_ALIASES = ("PreTrainedTokenizer", "PythonBackend", "BloomTokenizer")
_OTHERS = """
    AlbertTokenizer AutoTokenizer BartTokenizer BarthezTokenizer BartphoTokenizer BasicTokenizer
    BertGenerationTokenizer BertJapaneseTokenizer BertweetTokenizer BigBirdTokenizer BioGptTokenizer
    BlenderbotSmallTokenizer BlenderbotTokenizer ByT5Tokenizer CLIPTokenizer CTRLTokenizer
    CanineTokenizer CharacterTokenizer ClvpTokenizer ConvBertTokenizer CpmAntTokenizer CpmTokenizer
    DPRContextEncoderTokenizer DPRQuestionEncoderTokenizer DPRReaderTokenizer DebertaTokenizer
    DebertaV2Tokenizer DiaTokenizer EsmTokenizer EsmcTokenizer FNetTokenizer FSMTTokenizer
    FastSpeech2ConformerTokenizer FlaubertTokenizer FunnelTokenizer GPTNeoXJapaneseTokenizer
    GPTSw3Tokenizer HerbertTokenizer LEDTokenizer LasrTokenizer LayoutLMv2Tokenizer LayoutLMv3Tokenizer
    LayoutXLMTokenizer LukeTokenizer LxmertTokenizer M2M100Tokenizer MBart50Tokenizer MBartTokenizer
    MLukeTokenizer MarianTokenizer MarkupLMTokenizer MecabTokenizer MgpstrTokenizer
    MistralCommonBackend MobileBertTokenizer MvpTokenizer MyT5Tokenizer NllbTokenizer NougatTokenizer
    OpenAIGPTTokenizer PLBartTokenizer ParakeetTokenizer PegasusTokenizer PerceiverTokenizer
    PhobertTokenizer Pop2PianoTokenizer ProphetNetTokenizer Qwen3_5Tokenizer RagTokenizer
    ReformerTokenizer RemBertTokenizer RoCBertTokenizer RoFormerTokenizer SeamlessM4TTokenizer
    SentencePieceBackend Siglip2Tokenizer SiglipTokenizer Speech2TextTokenizer SpeechT5Tokenizer
    SplinterTokenizer SqueezeBertTokenizer T5Tokenizer TapasTokenizer Tipsv2Tokenizer UdopTokenizer
    VideoPrismTokenizer VitsTokenizer Wav2Vec2CTCTokenizer Wav2Vec2PhonemeCTCTokenizer WhisperTokenizer
    WordpieceTokenizer XGLMTokenizer XLMTokenizer XLNetTokenizer
"""
NOT_BUILT_HERE = frozenset(_OTHERS.split())
"""All others that transformers has; a name that it has not runs tokenizer.json as it stands."""


def choose_class(
    config: Mapping[str, Any], model_config: Mapping[str, Any], *, names_byte_level: bool = False
) -> str:
    """A key of `CLASSES`, or `AS_IT_STANDS`.

    Args:
        config: tokenizer_config.json.
        model_config: config.json.
        names_byte_level: tokenizer.json has a part of that name: it is then no tokenizer of Llama 2's kind,
            though many checkpoints say so.

    Raises:
        ModelUnsupportedError: It is a class of the checkpoint's own, or another one of transformers.
    """
    model_type = str(model_config.get("model_type") or "")
    registered = OF_MODEL_TYPES.get(model_type)
    own = _stem(config.get("tokenizer_class"))
    named = own or _stem(model_config.get("tokenizer_class"))
    if _has_code(config):
        if registered is None and not _is_known(own):
            raise ModelUnsupportedError(
                "tokenizer_config.json: auto_map names a tokenizer that is code of the checkpoint's own, "
                "which is never run here. If tokenizer.json holds all of the tokenizer, remove auto_map."
            )
    elif named is not None:
        if model_type in NAMED_WRONG:
            return _known(registered)
        if registered == AS_IT_STANDS or (named == _OF_LLAMA and names_byte_level):
            return AS_IT_STANDS
    return _known(named or registered)


def _known(name: str | None) -> str:
    if name in NOT_BUILT_HERE:
        raise ModelUnsupportedError(
            f"tokenizer_config.json: tokenizer_class is {name!r}, which makes more of a tokenizer than "
            "tokenizer.json says, in a way that is not implemented. If tokenizer.json holds all of it, as "
            "where transformers 4 saved it, write PreTrainedTokenizerFast there."
        )
    return name if name in CLASSES else AS_IT_STANDS


def _is_known(name: str | None) -> bool:
    return name == AS_IT_STANDS or name in _ALIASES or name in CLASSES or name in NOT_BUILT_HERE


def _stem(name: object) -> str | None:
    return name.removesuffix("Fast") if isinstance(name, str) and name else None


def _has_code(config: Mapping[str, Any]) -> bool:
    found = config.get("auto_map")
    return (found.get("AutoTokenizer") if isinstance(found, dict) else found) is not None
