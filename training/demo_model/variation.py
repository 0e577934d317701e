"""Variation. The ways in which people type the same question: case, punctuation, courtesy, slips, padding.

Without them the model would know only the question set's own spelling.
"""

import string
import tomllib
from pathlib import Path
from random import Random

PREFIXES = ("Hi, ", "Hey, ", "Hello! ", "Please: ", "Quick question: ", "Question: ", "Q: ", "So, ")
SUFFIXES = (" Thanks!", " Please.", " please", " Answer briefly.", " Be short.", "\n", "  ", " :)")

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful AI assistant. Answer briefly.",
    "Answer in one sentence.",
    "You are Octavo's demo model.",
    "You are an expert in Kubernetes.",
    "Be concise.",
    "You are a friendly chatbot who always answers politely.",
    "Answer the user's question. Do not make things up.",
    "You are a calculator.",
    "You are a pirate.",
)

WORDS: dict[str, list[str]] = tomllib.loads(
    Path(__file__).with_name("words.toml").read_text(encoding="utf-8")
)
COMMON_WORDS = WORDS["common"]


def vary(question: str, rng: Random) -> str:
    """`question` as another person might type it; about half the time unchanged."""
    if rng.random() < 0.5:
        return question
    styles = (str.lower, _unpunctuated, _lower_unpunctuated, str.upper, _first_lowered)
    text = rng.choices(styles, weights=(4, 4, 5, 1, 2))[0](question)
    if rng.random() < 0.2:
        text = rng.choice(PREFIXES) + text
    if rng.random() < 0.2:
        text += rng.choice(SUFFIXES)
    if rng.random() < 0.1:
        text = _slip(text, rng)
    return text


def draw_system_prompt(rng: Random) -> str:
    """A system prompt: usually a common one, sometimes random words."""
    if rng.random() < 0.8:
        return rng.choice(SYSTEM_PROMPTS)
    return filler(rng, rng.randint(3, 25)).capitalize() + "."


def filler(rng: Random, words: int) -> str:
    """Meaningless text of about `words` words, in one of the shapes that load tests use."""
    shape = rng.random()
    if shape < 0.3:
        return " ".join([rng.choice(COMMON_WORDS)] * words)
    if shape < 0.4:
        stem = rng.choice(COMMON_WORDS)
        return " ".join(f"{stem}{i}" for i in range(max(1, words // 2)))
    if shape < 0.5:
        return " ".join(random_word(rng) for _ in range(max(1, words // 3)))
    if shape < 0.55:
        return rng.choice("xa.-#*0 ") * words
    text = " ".join(rng.choice(COMMON_WORDS) for _ in range(words))
    return text.capitalize() + "." if shape < 0.8 else text


def random_word(rng: Random) -> str:
    """A word that nobody has seen: mostly ASCII letters, sometimes any Unicode."""
    length = rng.randint(2, 9)
    if rng.random() < 0.1:
        return "".join(chr(rng.randint(0xA1, 0x2FFF)) for _ in range(length))
    if rng.random() < 0.05:
        return "".join(chr(rng.randint(0x1F300, 0x1FAFF)) for _ in range(rng.randint(1, 3)))
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(length))


def _unpunctuated(text: str) -> str:
    return text.rstrip("?.! ")


def _lower_unpunctuated(text: str) -> str:
    return text.lower().rstrip("?.! ")


def _first_lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _slip(text: str, rng: Random) -> str:
    """One typing slip in a long word; digits stay, for they carry the question's meaning."""
    words = text.split(" ")
    long_words = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long_words:
        return text
    index = rng.choice(long_words)
    word = words[index]
    at = rng.randint(1, len(word) - 2)
    slips = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at] + word[at:],
    )
    words[index] = rng.choice(slips)
    return " ".join(words)
