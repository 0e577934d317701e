"""Cleanup of spaces in decoded text: `clean_up_tokenization_spaces` of tokenizer_config.json.

Vocabularies of whole words decode to `do n't .`; transformers then joins what English writes in one. Here it
is a part of the decoder, so that whole texts and streamed ones get it.
"""

from __future__ import annotations

from tokenizers import decoders
from tokenizers.decoders import Decoder

_JOINED = {
    " .": ".",
    " ?": "?",
    " !": "!",
    " ,": ",",
    " ' ": "'",
    " n't": "n't",
    " 'm": "'m",
    " 's": "'s",
    " 've": "'ve",
    " 're": "'re",
}
_NO_PREFIX = "\ufdd0"  # no character of any text


def with_cleanup(decoder: Decoder | None) -> Decoder:
    """`decoder`, which may be none (tokens and spaces between them), and cleanup behind it."""
    # Without a prefix in any token this one writes words with spaces between them.
    first = decoder or decoders.WordPiece(prefix=_NO_PREFIX, cleanup=False)
    replaced = [decoders.Replace(text, joined) for text, joined in _JOINED.items()]
    return decoders.Sequence([first, decoders.Fuse(), *replaced])
