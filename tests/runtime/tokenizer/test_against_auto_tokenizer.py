"""Folders of every form make the ids, the text and the special tokens that `AutoTokenizer` makes."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from octavo.errors import ModelInvalidError
from octavo.tokenizer import Tokenizer, load_tokenizer
from tests.support.runtime.tokenizer_kinds import ITS_CLASSES, KINDS, RESERVED, WORDS

NEW = ("<|im_start|>", "<|im_end|>", "<tool>", "<x>", "end", "Hello", " wide ")
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
CLASSES = (
    None,
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "CodeLlamaTokenizer",
    "GemmaTokenizerFast",
    "Qwen2Tokenizer",
    "Qwen2TokenizerFast",
    "GPT2Tokenizer",
    "CodeGenTokenizer",
    "GPTNeoXTokenizerFast",
    "CohereTokenizerFast",
    "BertTokenizerFast",
    "DistilBertTokenizer",
    "MPNetTokenizerFast",
    "RobertaTokenizerFast",
    "XLMRobertaTokenizer",
    "CamembertTokenizerFast",
    "NobodysTokenizer",
)
BRACKETS = {
    **dict.fromkeys(
        ("BertTokenizer", "DistilBertTokenizer", "MPNetTokenizer", "RobertaTokenizer"),
        ("cls_token", "sep_token"),
    ),
    **dict.fromkeys(("XLMRobertaTokenizer", "CamembertTokenizer"), ("bos_token", "eos_token")),
}
MODEL_TYPES = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma2", "gpt_neox", "phi", "bert")
PIECES = (
    *WORDS,
    *RESERVED,
    *NEW,
    " ",
    "  ",
    "\n",
    ".",
    " .",
    " n't",
    "'s",
    "é",
    "e\u0301",
    "你好",
    "Ab",
)


@dataclass
class Form:
    """One folder: what each of its files holds."""

    kind: str
    tokenizer: str = field(repr=False)
    config: dict[str, Any]
    model_config: dict[str, Any]
    special_tokens_map: dict[str, Any] | None = None
    added_tokens: dict[str, int] | None = None
    others: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text(self.tokenizer)
        for name, value in {
            "tokenizer_config.json": self.config,
            "config.json": self.model_config,
            "special_tokens_map.json": self.special_tokens_map,
            "added_tokens.json": self.added_tokens,
        }.items():
            if value is not None:
                (folder / name).write_text(json.dumps(value))


flags = st.fixed_dictionaries(
    {},
    optional={
        name: st.booleans() for name in ("lstrip", "rstrip", "single_word", "normalized", "special")
    },
)
token_texts = st.sampled_from([*RESERVED, *NEW])


@st.composite
def tokens(draw: st.DrawFn) -> Any:
    """As a value of tokenizer_config.json."""
    text = draw(token_texts)
    if draw(st.booleans()):
        return text
    return {"__type": "AddedToken", "content": text, **draw(flags)}


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


@st.composite
def forms(draw: st.DrawFn) -> Form:
    kind = draw(st.sampled_from(list(KINDS)))
    backend = KINDS[kind]()
    for text in draw(st.lists(token_texts, max_size=4, unique=True)):
        backend.add_tokens([AddedToken(text, **draw(flags))])
    around = draw(st.sampled_from(["", "bos", "bos and eos"]))
    if around:
        bos, eos = backend.token_to_id("<s>"), backend.token_to_id("</s>")
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A" if around == "bos" else "<s> $A </s>",
            special_tokens=[("<s>", bos), ("</s>", eos)],
        )
    config: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                **{name: maybe(tokens()) for name in NAMES},
                "image_token": tokens(),
                "additional_special_tokens": maybe(st.lists(tokens(), max_size=3)),
                "extra_special_tokens": maybe(
                    st.one_of(
                        st.lists(tokens(), max_size=3),
                        st.dictionaries(st.sampled_from(["a_token", "b"]), tokens(), max_size=2),
                    )
                ),
                **{
                    name: maybe(st.booleans())
                    for name in (
                        "add_prefix_space",
                        "legacy",
                        "do_lower_case",
                        "strip_accents",
                        "tokenize_chinese_chars",
                    )
                },
                **{
                    name: st.booleans()
                    for name in (
                        "add_bos_token",
                        "add_eos_token",
                        "clean_up_tokenization_spaces",
                        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
                        "split_special_tokens",
                        "use_default_system_prompt",
                    )
                },
                "model_max_length": st.just(2048),
            },
        )
    )
    free = backend.get_vocab_size()
    late = draw(st.lists(token_texts, max_size=3, unique=True))
    numbers = {
        token.content: number for number, token in backend.get_added_tokens_decoder().items()
    }
    for text in late:
        if text not in numbers:
            known = backend.token_to_id(text)
            numbers[text] = free if known is None else known
            free += known is None
    form = Form(kind, backend.to_str(), config, {})
    if draw(st.booleans()):
        config["added_tokens_decoder"] = {
            str(number): {"content": text, **draw(flags)} for text, number in numbers.items()
        }
    elif draw(st.booleans()):
        form.added_tokens = {text: numbers[text] for text in late}
    if draw(st.booleans()):
        form.special_tokens_map = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    **{
                        name: st.one_of(
                            token_texts,
                            st.builds(
                                lambda text, given: {"content": text, **given}, token_texts, flags
                            ),
                        )
                        for name in NAMES
                    },
                    "additional_special_tokens": st.lists(token_texts, max_size=3),
                    "extra_special_tokens": st.lists(token_texts, max_size=3),
                },
            )
        )
    # Mostly one that makes such a tokenizer, where it is used.
    own = (*ITS_CLASSES.get(kind, ()), *CLASSES[:2])
    is_own = draw(st.booleans())
    if (name := draw(st.sampled_from(own if is_own else CLASSES))) is not None:
        config["tokenizer_class"] = name
    if name is not None and name.startswith("Camembert"):
        # It looks its unknown token up anew, and finds another than tokenizer.json names.
        for fields in (config, form.special_tokens_map or {}):
            fields.pop("unk_token", None)
    types = ("llama", "gemma2", "qwen3", "gpt_neox", "phi") if is_own else MODEL_TYPES
    form.model_config = {"model_type": draw(st.sampled_from(types))}
    if draw(st.booleans()):
        form.model_config["tokenizer_class"] = draw(st.sampled_from(CLASSES))
    return form


texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@contextmanager
def folder_of(form: Form) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        form.write(folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def oracle(form: Form, folder: Path) -> Any:
    """`AutoTokenizer`; but what it makes of a tokenizer.json that is not of its class's kind is another
    tokenizer than the model's own, and there tokenizer.json counts."""
    found = AutoTokenizer.from_pretrained(folder)
    name = type(found).__name__
    event(f"{form.kind}: {name}")
    if name == "TokenizersBackend" or name in ITS_CLASSES.get(form.kind, ()):
        return found
    return PreTrainedTokenizerFast.from_pretrained(folder)


def assert_same(ours: Tokenizer, theirs: Any, inputs: list[str]) -> None:
    assert ours.special_tokens == theirs.special_tokens_map
    assert ours.eos_token_id == theirs.eos_token_id
    for first, second in itertools.pairwise(filter(None, inputs)):
        pair = theirs(first, second, return_token_type_ids=True)
        encoded = ours.backend.encode(first, second)
        assert (encoded.ids, encoded.type_ids) == (pair["input_ids"], pair["token_type_ids"])
    for text in inputs:
        ids = theirs.encode(text)
        assert ours.encode(text) == ids
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(
            text, add_special_tokens=False
        )
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
                ids, skip_special_tokens=skip
            )


@settings(
    max_examples=200,
    deadline=None,
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(forms(), st.lists(texts, min_size=1, max_size=4))
def test_every_form_of_a_folder(form: Form, inputs: list[str]) -> None:
    with folder_of(form) as folder:
        try:
            theirs = oracle(form, folder)
            theirs.encode("hello Ж")  # the latter is in no vocabulary
        except Exception as error:  # whatever it makes of a null
            event(f"transformers cannot: {type(error).__name__}")
            assume(False)
        brackets = BRACKETS.get(type(theirs).__name__, ())
        if not all(getattr(theirs, bracket) for bracket in brackets):
            with pytest.raises(ModelInvalidError, match=r"\w+_token is null"):
                load_tokenizer(folder)
            return
        assert_same(load_tokenizer(folder), theirs, inputs)
