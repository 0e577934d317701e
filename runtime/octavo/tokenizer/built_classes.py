"""Built classes: those of transformers' tokenizer classes that make more of a tokenizer than tokenizer.json
says, and are made here likewise.

Each takes the vocabulary from tokenizer.json, makes a pipeline by fields of tokenizer_config.json, and has
names for special tokens of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class BuiltClass:
    """One class.

    Args:
        defaults: Named tokens that hold where the files mention no such name; None: none.
        pipeline: By fields of tokenizer_config.json.
        fields: Those fields, with the values that give pipelines of the class's kind.
        finish: What it does once all tokens have their ids.
        model: Kind of its vocabulary.
        other_forms: Pipelines of its kind that earlier releases of transformers wrote.
    """

    defaults: Mapping[str, str | None]
    pipeline: Callable[[Fields], Pipeline]
    fields: Mapping[str, tuple[bool | None, ...]]
    finish: Finish = _nothing
    model: str = "BPE"
    other_forms: Callable[[], tuple[Pipeline, ...]] = tuple

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
    _put_around(backend, [], [])


def _finish_code_llama(backend: tokenizers.Tokenizer, tokens: DeclaredTokens) -> None:
    """BOS alone is written before a text, whatever tokenizer.json says."""
    bos = tokens.named.get("bos_token")
    _put_around(backend, [] if bos is None else [str(bos)], [])


def _finish_bert(backend: tokenizers.Tokenizer, tokens: DeclaredTokens) -> None:
    """The brackets around a text are the named tokens, with the ids that these have got."""
    for name in ("cls_token", "sep_token"):
        if name not in tokens.named:
            raise ModelInvalidError(
                f"tokenizer_config.json: {name} is null, but BertTokenizer writes it around every text. Name "
                "the token, or write PreTrainedTokenizerFast as tokenizer_class."
            )
    unknown = tokens.named.get("unk_token")
    model = backend.model
    if isinstance(model, WordPiece) and unknown is not None:
        model.unk_token = str(unknown)
    _put_around(backend, [str(tokens.named["cls_token"])], [str(tokens.named["sep_token"])])


def _put_around(backend: tokenizers.Tokenizer, before: list[str], after: list[str]) -> None:
    backend.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after],
        special_tokens=[(token, backend.token_to_id(token)) for token in {*before, *after}],
    )


_BOOLS = (False, True)
_PREFIX = {"add_prefix_space": _BOOLS}
_END = "<|endoftext|>"
_OF_GPT2 = {"unk_token": _END, "bos_token": _END, "eos_token": _END, "pad_token": None}
_OF_LLAMA = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
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
    "BertTokenizer": BuiltClass(
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
    ),
}
"""By name, without the `Fast` that some checkpoints write behind it."""
