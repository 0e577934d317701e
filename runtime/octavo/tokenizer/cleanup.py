"""Cleanup of spaces in decoded text: `clean_up_tokenization_spaces` of tokenizer_config.json.

Vocabularies of whole words decode to `do n't .`; transformers then joins what English writes in one. Here it
is a part of the decoder, so that whole texts and streamed ones get it.
"""

from __future__ import annotations

import re

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
_REPLACEMENTS = [repr(decoders.Replace(text, joined)) for text, joined in _JOINED.items()]
_OPEN = re.compile(r"[ '][ 'nvr]*\Z")
_NO_PREFIX = "\ufdd0"  # no character of any text


def with_cleanup(decoder: Decoder | None) -> Decoder:
    """`decoder`, which may be none (tokens and spaces between them), and cleanup behind it."""
    # Without a prefix in any token this one writes words with spaces between them.
    first = decoder or decoders.WordPiece(prefix=_NO_PREFIX, cleanup=False)
    replaced = [decoders.Replace(text, joined) for text, joined in _JOINED.items()]
    return decoders.Sequence([first, decoders.Fuse(), *replaced])


def has_cleanup(decoder: Decoder | None) -> bool:
    """Whether `with_cleanup` has made it."""
    if not isinstance(decoder, decoders.Sequence):
        return False
    written = repr(decoder)
    return all(replacement in written for replacement in _REPLACEMENTS)


def may_be_joined(text: str) -> bool:
    """Whether what follows a cleaned text may change how its end is written. All that is joined begins with a
    space, which may be joined already, and has these alone but for its last character."""
    return _OPEN.search(text) is not None
