"""Built classes: those of transformers' tokenizer classes that make more of a tokenizer than tokenizer.json
says, and are made here likewise.

Each takes the vocabulary from tokenizer.json, makes a pipeline by fields of tokenizer_config.json, and has
names for special tokens of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import tokenizers
from tokenizers import AddedToken, processors
from tokenizers.models import WordPiece

from octavo.errors import ModelInvalidError
from octavo.tokenizer import pipelines
from octavo.tokenizer.declared_tokens import DeclaredTokens
from octavo.tokenizer.pipelines import Fields, Pipeline

Finish = Callable[[tokenizers.Tokenizer, DeclaredTokens], None]


def _nothing(_: tokenizers.Tokenizer, __: DeclaredTokens) -> None:
    """Most classes are done when the tokens have their ids."""


def _as_they_are(tokens: DeclaredTokens) -> DeclaredTokens:
    return tokens


@dataclass(frozen=True, slots=True)
class BuiltClass:
    """One class.

    Args:
        defaults: Named tokens that hold where the files mention no such name; None: none.
        pipeline: By fields of tokenizer_config.json.
        fields: Those fields, with the values that give pipelines of the class's kind.
        finish: What it does once all tokens have their ids.
        prepare: What it does to the declared tokens before they are added.
        model: Kind of its vocabulary.
        tells_segments: Its models are told by default which of a pair's two texts a token belongs to.
        other_forms: Pipelines of its kind that earlier releases of transformers wrote.
    """

    defaults: Mapping[str, Any]
    pipeline: Callable[[Fields], Pipeline]
    fields: Mapping[str, tuple[bool | None, ...]]
    finish: Finish = _nothing
    prepare: Callable[[DeclaredTokens], DeclaredTokens] = _as_they_are
    model: str = "BPE"
    other_forms: Callable[[], tuple[Pipeline, ...]] = tuple
    tells_segments: bool = False

    def fits(self, backend: tokenizers.Tokenizer) -> bool:
        """Whether the tokenizer is of this class's kind."""
        if type(backend.model).__name__ != self.model:
            return False
        return any(one.is_in(backend) for one in (*self._forms(), *self.other_forms()))

    def _forms(self) -> Iterator[Pipeline]:
        for values in itertools.product(*self.fields.values()):
            yield self.pipeline(dict(zip(self.fields, values, strict=True)))


def _finish_qwen2(backend: tokenizers.Tokenizer, tokens: DeclaredTokens) -> None:
    """Special tokens lose the flags that they were declared with."""
    everything = (*tokens.named.values(), *tokens.extra)
    backend.add_tokens([AddedToken(str(token), special=True) for token in everything])


def _finish_cohere(backend: tokenizers.Tokenizer, tokens: DeclaredTokens) -> None:
    """All of them are special, whatever they were before."""
    backend.add_special_tokens([*tokens.named.values(), *tokens.extra])


def _finish_gpt_neox(backend: tokenizers.Tokenizer, _: DeclaredTokens) -> None:
    """Nothing is written around a text, whatever tokenizer.json says."""
    _put_before(backend, [])


def _finish_code_llama(backend: tokenizers.Tokenizer, tokens: DeclaredTokens) -> None:
    """BOS alone is written before a text, whatever tokenizer.json says."""
    bos = tokens.named.get("bos_token")
    _put_before(backend, [] if bos is None else [str(bos)])


def _finish_bert(backend: tokenizers.Tokenizer, tokens: DeclaredTokens) -> None:
    """The brackets around a text are the named tokens, with the ids that these have got."""
    first, last = _brackets(tokens, "cls_token", "sep_token")
    _name_unknown(backend, tokens)
    backend.post_processor = processors.TemplateProcessing(
        single=[f"{first}:0", "$A:0", f"{last}:0"],
        pair=[f"{first}:0", "$A:0", f"{last}:0", "$B:1", f"{last}:1"],
        special_tokens=_with_ids(backend, {first, last}),
    )


def _finish_roberta(backend: tokenizers.Tokenizer, tokens: DeclaredTokens) -> None:
    """As BERT's, with two brackets between the texts of a pair."""
    _put_around_roberta(backend, *_brackets(tokens, "cls_token", "sep_token"))


def _finish_mpnet(backend: tokenizers.Tokenizer, tokens: DeclaredTokens) -> None:
    """BERT's pieces in RoBERTa's brackets."""
    _name_unknown(backend, tokens)
    _finish_roberta(backend, tokens)


def _finish_xlm_roberta(backend: tokenizers.Tokenizer, tokens: DeclaredTokens) -> None:
    """As RoBERTa's, but for the brackets' names."""
    _put_around_roberta(backend, *_brackets(tokens, "bos_token", "eos_token"))


def _name_unknown(backend: tokenizers.Tokenizer, tokens: DeclaredTokens) -> None:
    unknown, model = tokens.named.get("unk_token"), backend.model
    if isinstance(model, WordPiece) and unknown is not None:
        model.unk_token = str(unknown)


def _strip_before_mask(tokens: DeclaredTokens) -> DeclaredTokens:
    """A mask stands for a word together with the space before it."""
    mask = tokens.named.get("mask_token")
    if not isinstance(mask, str):
        return tokens
    stripping = AddedToken(mask, lstrip=True, special=True)
    return replace(tokens, named={**tokens.named, "mask_token": stripping})


def _brackets(tokens: DeclaredTokens, first: str, last: str) -> tuple[str, str]:
    for name in (first, last):
        if name not in tokens.named:
            raise ModelInvalidError(
                f"tokenizer_config.json: {name} is null, but tokenizer_class writes it around texts. Name "
                "the token, or write PreTrainedTokenizerFast as tokenizer_class."
            )
    return str(tokens.named[first]), str(tokens.named[last])


def _put_around_roberta(backend: tokenizers.Tokenizer, first: str, last: str) -> None:
    backend.post_processor = processors.TemplateProcessing(
        single=[first, "$A", last],
        pair=[first, "$A", last, last, "$B:0", last],
        special_tokens=_with_ids(backend, {first, last}),
    )


def _put_before(backend: tokenizers.Tokenizer, first: list[str]) -> None:
    single = [*(f"{token}:0" for token in first), "$A:0"]
    backend.post_processor = processors.TemplateProcessing(
        single=single,
        pair=[*single, *(f"{token}:1" for token in first), "$B:1"],
        special_tokens=_with_ids(backend, set(first)),
    )


def _with_ids(backend: tokenizers.Tokenizer, tokens: set[str]) -> list[tuple[str, int | None]]:
    return [(token, backend.token_to_id(token)) for token in tokens]


_BOOLS = (False, True)
_PREFIX = {"add_prefix_space": _BOOLS}
_END = "<|endoftext|>"
_OF_GPT2 = {"unk_token": _END, "bos_token": _END, "eos_token": _END, "pad_token": None}
_OF_LLAMA = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
_OF_ROBERTA = {
    **_OF_LLAMA,
    "sep_token": "</s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_BERT = BuiltClass(
    {
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    pipelines.bert,
    {
        "do_lower_case": _BOOLS,
        "strip_accents": (None, *_BOOLS),
        "tokenize_chinese_chars": _BOOLS,
    },
    _finish_bert,
    model="WordPiece",
    tells_segments=True,
)
CLASSES = {
    "LlamaTokenizer": BuiltClass(
        _OF_LLAMA,
        pipelines.llama,
        {**_PREFIX, "legacy": _BOOLS},
        other_forms=pipelines.other_forms_of_llama,
    ),
    "CodeLlamaTokenizer": BuiltClass(
        {
            **_OF_LLAMA,
            "prefix_token": "▁<PRE>",
            "middle_token": "▁<MID>",
            "suffix_token": "▁<SUF>",
            "eot_token": "▁<EOT>",
            "fill_token": "<FILL_ME>",
        },
        pipelines.code_llama,
        _PREFIX,
        _finish_code_llama,
        other_forms=pipelines.other_forms_of_llama,
    ),
    "GemmaTokenizer": BuiltClass(
        {
            "unk_token": "<unk>",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
        },
        pipelines.gemma,
        {},
    ),
    "Qwen2Tokenizer": BuiltClass(
        {**_OF_GPT2, "bos_token": None, "pad_token": _END},
        pipelines.qwen2,
        _PREFIX,
        _finish_qwen2,
    ),
    "CohereTokenizer": BuiltClass(
        {
            "unk_token": "<UNK>",
            "bos_token": "<BOS_TOKEN>",
            "eos_token": "<|END_OF_TURN_TOKEN|>",
            "pad_token": "<PAD>",
            "cls_token": "<CLS>",
            "sep_token": "<SEP>",
            "mask_token": "<MASK_TOKEN>",
        },
        pipelines.cohere,
        _PREFIX,
        _finish_cohere,
    ),
    "GPT2Tokenizer": BuiltClass(_OF_GPT2, pipelines.gpt2, _PREFIX),
    "CodeGenTokenizer": BuiltClass(_OF_GPT2, pipelines.gpt2, _PREFIX),
    "GPTNeoXTokenizer": BuiltClass(
        {**_OF_GPT2, "pad_token": "<|padding|>"},
        pipelines.gpt_neox,
        {**_PREFIX, "trim_offsets": _BOOLS},
        _finish_gpt_neox,
    ),
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": replace(_BERT, tells_segments=False),
    "MPNetTokenizer": replace(
        _BERT,
        defaults={**_OF_ROBERTA, "unk_token": "[UNK]"},
        finish=_finish_mpnet,
        prepare=_strip_before_mask,
        tells_segments=False,
    ),
    "RobertaTokenizer": BuiltClass(_OF_ROBERTA, pipelines.gpt2, _PREFIX, _finish_roberta),
    "XLMRobertaTokenizer": BuiltClass(
        _OF_ROBERTA, pipelines.xlm_roberta, _PREFIX, _finish_xlm_roberta, model="Unigram"
    ),
    "CamembertTokenizer": BuiltClass(
        {**_OF_ROBERTA, "extra_special_tokens": ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]},
        pipelines.xlm_roberta,
        _PREFIX,
        _finish_xlm_roberta,
        _strip_before_mask,
        model="Unigram",
    ),
}
"""By name, without the `Fast` that some checkpoints write behind it."""
