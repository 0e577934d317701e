"""Small tokenizers of the kinds that published checkpoints have, as their tokenizer.json holds them."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

WORDS = ("hello", "world", "don't", "12345", "Größe")
# In the vocabulary, but added tokens only where a file says so.
RESERVED = ("<unk>", "<s>", "</s>", "<pad>", "<|endoftext|>", "[UNK]", "[CLS]", "[SEP]")
_QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _vocabulary(*tokens: str) -> dict[str, int]:
    return {token: number for number, token in enumerate(dict.fromkeys((*RESERVED, *tokens)))}


def _merged(words: tuple[str, ...]) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merges that make each word one token, letter by letter."""
    tokens: list[str] = []
    merges: list[tuple[str, str]] = []
    for word in words:
        for end in range(2, len(word) + 1):
            tokens.append(word[:end])
            merges.append((word[: end - 1], word[end - 1]))
    return tokens, list(dict.fromkeys(merges))


def byte_level(*, add_prefix_space: bool = False) -> Tokenizer:
    """GPT-2's kind."""
    merged, merges = _merged(("hello", "Ġhello", "Ġworld", "123"))
    vocabulary = _vocabulary(*sorted(pre_tokenizers.ByteLevel.alphabet()), *merged)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def digits_apart() -> Tokenizer:
    """SmolLM's kind: GPT-2's, but for digits, each of which is a token."""
    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer


def gpt_neox() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def cohere() -> Tokenizer:
    tokenizer = digits_apart()
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def qwen2() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _sentencepiece() -> Tokenizer:
    merged, merges = _merged(("hello", "▁hello", "▁world", "▁▁"))
    single = sorted({letter for word in ("▁", ".", "\n", *WORDS) for letter in word})
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = _vocabulary(*bytes_, *single, *merged)
    return Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )


def llama(scheme: str = "first") -> Tokenizer:
    """Llama 2's kind as transformers writes it today."""
    tokenizer = _sentencepiece()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return tokenizer


def llama_of_old() -> Tokenizer:
    """Llama 2's kind as its first conversion has it: spaces are the normalizer's work."""
    tokenizer = llama()
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return tokenizer


def gemma() -> Tokenizer:
    tokenizer = _sentencepiece()
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def xlm_roberta() -> Tokenizer:
    tokenizer = unigram("<s>", "<pad>", "</s>", "<unk>")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    return tokenizer


def bert() -> Tokenizer:
    letters = sorted({letter for word in (*WORDS, ".", "'", "große") for letter in word})
    vocabulary = _vocabulary(*letters, *(f"##{letter}" for letter in letters), "hello", "##ld")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def words() -> Tokenizer:
    """Toy models' kind; it has no decoder."""
    tokenizer = Tokenizer(
        models.WordLevel(_vocabulary(*WORDS, ".", "'", "s", "do", "n't"), "<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def unigram(*first: str) -> Tokenizer:
    pieces = sorted({letter for word in WORDS for letter in word})
    scored = [
        *first,
        *RESERVED,
        "▁",
        ".",
        "▁.",
        "'",
        "▁'",
        "s",
        *pieces,
        "▁hello",
        "▁world",
        "hello",
    ]
    tokenizer = Tokenizer(
        models.Unigram(
            [(piece, -1.0 - 0.1 * len(piece)) for piece in dict.fromkeys(scored)],
            first.index("<unk>") if first else 0,
            False,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte level": byte_level,
    "byte level with a prefix": lambda: byte_level(add_prefix_space=True),
    "digits apart": digits_apart,
    "gpt neox": gpt_neox,
    "cohere": cohere,
    "qwen2": qwen2,
    "llama": llama,
    "llama, always": lambda: llama("always"),
    "llama, never": lambda: llama("never"),
    "llama of old": llama_of_old,
    "gemma": gemma,
    "bert": bert,
    "xlm-roberta": xlm_roberta,
    "words": words,
    "unigram": unigram,
}
_OF_GPT2 = ("GPT2Tokenizer", "CodeGenTokenizer", "RobertaTokenizer")
_OF_LLAMA = ("LlamaTokenizer", "CodeLlamaTokenizer")
ITS_CLASSES = {
    "byte level": _OF_GPT2,
    "byte level with a prefix": _OF_GPT2,
    "gpt neox": ("GPTNeoXTokenizer",),
    "cohere": ("CohereTokenizer",),
    "qwen2": ("Qwen2Tokenizer",),
    "llama": _OF_LLAMA,
    "llama, always": _OF_LLAMA,
    "llama, never": _OF_LLAMA,
    "llama of old": _OF_LLAMA,
    "gemma": ("GemmaTokenizer",),
    "bert": ("BertTokenizer", "DistilBertTokenizer", "MPNetTokenizer"),
    "xlm-roberta": ("XLMRobertaTokenizer", "CamembertTokenizer"),
}
"""By kind, the classes of transformers that make such a tokenizer; the others make it into another one."""
