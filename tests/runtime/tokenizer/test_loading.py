"""Which file is read, what is refused, and what loading costs."""

from __future__ import annotations

import ast
import inspect
import json
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, GPT2Tokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from octavo.engine.requests.detokenizer import IncrementalDetokenizer
from octavo.errors import ModelInvalidError
from octavo.tokenizer import load_tokenizer
from tests.support.runtime.tokenizer_kinds import bert, byte_level, words


def write(folder: Path, backend: Tokenizer, name: str = "tokenizer.json", **config: Any) -> Path:
    (folder / name).write_text(backend.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "versions",
    [
        [],
        ["4.0.0"],
        ["4.0.0", "5.1.0"],
        ["4.0.0", "99.0.0"],
        ["99.0.0"],
        ["5.1", "4.46.2"],
        ["4.9.0", "4.10.0"],
        ["10.0.0", "5.0.0"],
    ],
    ids=str,
)
def test_the_file_for_this_release_is_read_as_transformers_chooses_it(
    tmp_path: Path, versions: list[str]
) -> None:
    names = ["tokenizer.json", *(f"tokenizer.{version}.json" for version in versions)]
    for number, name in enumerate(names):
        backend = byte_level()
        backend.add_tokens([f"token {number}"])
        write(tmp_path, backend, name, fast_tokenizer_files=names)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    assert ours.backend.id_to_token(ours.id_limit - 1) == theirs.convert_ids_to_tokens(
        len(theirs) - 1
    )


def test_a_named_file_that_is_missing_or_elsewhere_is_refused(tmp_path: Path) -> None:
    write(tmp_path, byte_level(), fast_tokenizer_files=["tokenizer.4.0.0.json"])
    with pytest.raises(ModelInvalidError, match=r"holds no tokenizer\.4\.0\.0\.json"):
        load_tokenizer(tmp_path)
    write(tmp_path, byte_level(), fast_tokenizer_files=["../tokenizer.4.0.0.json"])
    assert load_tokenizer(tmp_path).vocab_size == byte_level().get_vocab_size()
    write(tmp_path, byte_level(), fast_tokenizer_files="tokenizer.4.0.0.json")
    with pytest.raises(ModelInvalidError, match="fast_tokenizer_files is"):
        load_tokenizer(tmp_path)


def test_a_folder_in_another_form_says_how_to_convert_it_and_that_works(tmp_path: Path) -> None:
    backend = byte_level()
    state = json.loads(backend.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(state["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in state["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelInvalidError) as caught:
        load_tokenizer(tmp_path)
    assert "no tokenizer.json, but vocab.json and merges.txt" in str(caught.value)
    assert "AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)" in str(caught.value)
    theirs = GPT2Tokenizer.from_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).encode("hello world") == theirs.encode("hello world")


@pytest.mark.parametrize(
    ("kind", "fixes", "model_type", "version"),
    [
        ("sequence", True, "mistral", "4.57.3"),
        ("byte level", True, "mistral", "4.57.3"),
        ("metaspace", True, "mistral", "4.57.3"),
        ("sequence", True, "mistral", None),
        ("sequence", True, "mistral", "5.0.0"),
        ("sequence", True, "llama", "4.57.3"),
        ("sequence", False, "mistral", "4.57.3"),
        ("sequence", None, "mistral", "4.57.3"),
    ],
)
def test_mistrals_words_are_mended_where_transformers_does_so(
    tmp_path: Path, kind: str, fixes: bool | None, model_type: str, version: str | None
) -> None:
    backend = byte_level()
    filler = {f"filler {number}": 1000 + number for number in range(100_001)}
    backend.model = models.BPE(
        {**backend.get_vocab(), "Xx": 999, **filler}, [("h", "e"), ("X", "x")]
    )
    if kind == "sequence":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"\w"), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    elif kind == "metaspace":
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
    fields: dict[str, Any] = {} if fixes is None else {"fix_mistral_regex": fixes}
    write(tmp_path, backend, **fields)
    model_config = {"model_type": model_type, "transformers_version": version}
    (tmp_path / "config.json").write_text(json.dumps(model_config))
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for text in ("hello Xx he'sHe 123", "a.b/c\n\n d"):
        assert ours.encode(text) == theirs.encode(text)


@pytest.mark.parametrize("kind", [bert, words])
def test_cleaned_text_is_streamed_as_it_is_decoded(tmp_path: Path, kind: Any) -> None:
    write(tmp_path, kind(), clean_up_tokenization_spaces=True)
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = ours.encode("hello world . hello .")
    text = ours.decode(ids)
    assert text == theirs.decode(ids)
    assert " ." not in text
    stream = IncrementalDetokenizer(ours.backend, [], skip_special_tokens=True)
    assert "".join([*map(stream.push, ids), stream.flush()]) == text


SPLIT = [
    "do",
    "n",
    "'",
    "t",
    "n't",
    "'m",
    "'s",
    "'ve",
    "ve",
    "'re",
    "re",
    ".",
    "?",
    "!",
    ",",
    "world",
]
SPLIT += ["s", "##n", "##'", "##.", "##t", "##'t"]


@pytest.mark.parametrize("decoder", [None, decoders.WordPiece(cleanup=False), decoders.WordPiece()])
def test_what_cleanup_may_join_with_the_next_token_waits_for_it(
    tmp_path: Path, decoder: Any
) -> None:
    """Wherever an answer is cut, the pieces of its stream are its text as transformers decodes it."""
    vocabulary = {word: number for number, word in enumerate(["[UNK]", *SPLIT])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    if decoder is not None:
        backend.decoder = decoder
    write(tmp_path, backend, clean_up_tokenization_spaces=True)
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    chance = random.Random(1)  # noqa: S311
    texts = [["world", "'", "s"], ["do", "n", "'", "t", "."], ["world", "'", "'", "'", "do"]]
    texts += [chance.choices(SPLIT, k=chance.randint(1, 9)) for _ in range(300)]
    for text in texts:
        ids = [vocabulary[word] for word in text]
        for end in range(1, len(ids) + 1):
            stream = IncrementalDetokenizer(ours.backend, [], skip_special_tokens=True)
            told = "".join([*map(stream.push, ids[:end]), stream.flush()])
            assert told == theirs.decode(ids[:end]), text[:end]


def test_words_that_begin_with_a_zero_byte_are_kept_by_the_cleanup(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"\0": 0, "a": 1, "?": 2, "\0b": 3}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    write(tmp_path, backend, clean_up_tokenization_spaces=True)
    ids = [1, 0, 2, 3, 0]
    assert load_tokenizer(tmp_path).decode(ids) == AutoTokenizer.from_pretrained(tmp_path).decode(
        ids
    )


# What transformers reads of tokenizer_config.json where tokenizer.json is there.
READ = {
    "tokenizer_class",
    "auto_map",
    "fast_tokenizer_files",
    "added_tokens_decoder",
    "additional_special_tokens",
    "extra_special_tokens",
    "model_specific_special_tokens",
    "bos_token",
    "eos_token",
    "pad_token",
    "split_special_tokens",
    "clean_up_tokenization_spaces",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
    "fix_mistral_regex",
    "add_prefix_space",
    "chat_template",
}
CHANGE_NO_ID = {
    # tokenizer.json's post-processor counts, so transformers drops them.
    "add_bos_token",
    "add_eos_token",
    # Of texts that are cut or filled up, which no prompt is.
    "truncation_side",
    "padding_side",
    "stride",
    "truncation_strategy",
    "max_length",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "model_max_length",
    "max_len",
    # Of what a call returns beside the ids, and of names.
    "model_input_names",
    "name_or_path",
    "processor_class",
    "backend",
    "files_loaded",
    "verbose",
    "is_local",
    "local_files_only",
    # Of answers, and of a way to take control tokens out of messages that a caller must ask for.
    "response_template",
    "response_schema",
    "chat_control_tokens",
}
OF_THE_CALLER = {
    # Set by transformers itself; in a file they are overwritten, or make it fail.
    "tokenizer_object",
    "tokenizer_file",
    "gguf_file",
    "vocab_file",
    "vocab",
    "merges",
    "unk_id",
    "tokenizer",
    "tokenizer_truncation",
    "tokenizer_padding",
    "_json_truncation",
    "_json_padding",
    "_spm_precompiled_charsmap",
    "post_processor",
    "init_inputs",
}


def test_every_field_that_transformers_reads_is_known() -> None:
    """A new release may read one more: it is to be read here, or found to change no id."""
    found: set[str] = set()
    for function in (
        TokenizersBackend.__init__,
        PreTrainedTokenizerBase.__init__,
        PreTrainedTokenizerBase._from_pretrained,
    ):
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
            found |= _fields(node)
    assert found >= {"split_special_tokens", "added_tokens_decoder", "padding_side"}
    assert found - READ - CHANGE_NO_ID - OF_THE_CALLER == set()


def _fields(node: ast.AST) -> set[str]:
    """Of `kwargs.pop("name", …)`, `init_kwargs["name"]` and `"name" in kwargs`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        holder, names = node.func.value, node.args[:1]
    elif isinstance(node, ast.Subscript):
        holder, names = node.value, [node.slice]
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
        holder, names = node.comparators[0], [node.left]
    else:
        return set()
    if not (isinstance(holder, ast.Name) and holder.id in ("kwargs", "init_kwargs")):
        return set()
    return {
        name.value
        for name in names
        if isinstance(name, ast.Constant) and isinstance(name.value, str)
    }


def test_loading_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    write(tmp_path, byte_level(), fast_tokenizer_files=["tokenizer.json"])
    code = (
        "import sys, pathlib, octavo.tokenizer, octavo.model_source\n"
        "octavo.tokenizer.load_tokenizer(pathlib.Path(sys.argv[1]))\n"
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "model",
    [
        models.WordPiece({"a": 0}, unk_token="[UNK]"),
        models.WordLevel({"a": 0}, "[UNK]"),
        models.BPE({"a": 0}, [], unk_token="[UNK]"),
        models.Unigram([("a", -1.0)], None, False),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_vocabulary_without_its_unknown_token_is_refused_at_load(
    model: models.Model, tmp_path: Path
) -> None:
    """Each text with a character that is not in it would be an error."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[UNK]"])  # it is not in the vocabulary by that
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelInvalidError, match=r"Add the unknown token to model\.vocab"):
        load_tokenizer(tmp_path)


def test_bytes_need_no_unknown_token(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.model.unk_token = "<nowhere>"
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).decode(load_tokenizer(tmp_path).encode("é你")) == "é你"
