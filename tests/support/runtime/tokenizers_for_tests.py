"""Small tokenizers of the two kinds that models use."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

_TEXT = ["hello world, hello there 你好 😀 naïve café"] * 10


def byte_level_tokenizer() -> Tokenizer:
    """GPT-2's kind: every byte has a token, so any text works and characters get split."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<eos>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    return tokenizer


def metaspace_tokenizer() -> Tokenizer:
    """Llama 2's kind: a leading space is part of a word, unknown characters fall back to bytes."""
    vocab = {"<unk>": 0, "</s>": 1}
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    for token in ["▁", *"abcdefghijklmnopqrstuvwxyz", "▁h", "el", "lo", "▁hel", "▁hello"]:
        vocab[token] = len(vocab)
    merges = [("▁", "h"), ("e", "l"), ("l", "o"), ("▁h", "el"), ("▁hel", "lo")]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


def byte_token(tokenizer: Tokenizer, byte: int) -> int:
    """The token of one byte in `byte_level_tokenizer`."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    character = chr(byte) if byte in printable else chr(256 + others.index(byte))
    return token_id(tokenizer, character)


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Of a token that the tokenizer has."""
    found = tokenizer.token_to_id(token)
    assert found is not None
    return found
