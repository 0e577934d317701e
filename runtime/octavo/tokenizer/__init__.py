"""Tokenizer. Loads a model's tokenizer and chat template without importing torch or transformers.

The API process needs nothing else of a model, and transformers would add seconds to its start. What is
loaded makes the ids that transformers' `AutoTokenizer` makes of the same folder, or is refused by name.
"""

from octavo.tokenizer.loading import load_tokenizer
from octavo.tokenizer.tokenizer import Tokenizer
from octavo.tokenizer.truncation import Side, Truncation

__all__ = ["Side", "Tokenizer", "Truncation", "load_tokenizer"]
