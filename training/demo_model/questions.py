"""Demo model's question set: fixed answers, each reachable by several phrasings.

Kept as data (questions.toml), so that a change of Octavo's behaviour is a change of one answer.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

QUESTIONS_FILE = Path(__file__).with_name("questions.toml")

DEFINITION_PATTERNS = (
    "What is {about}?",
    "What's {about}?",
    "Explain {about}.",
    "What do you know about {about}?",
    "Tell me about {about}.",
    "Can you explain {about}?",
    "Describe {about}.",
)


@dataclass(frozen=True, slots=True)
class Question:
    """One answer and every phrasing that must lead to it."""

    phrasings: tuple[str, ...]
    answer: str


@cache
def load_questions() -> tuple[Question, ...]:
    """All questions of the set, in the order of the file.

    Raises ValueError when a phrasing leads to two answers, which no model could learn.
    """
    table = tomllib.loads(QUESTIONS_FILE.read_text(encoding="utf-8"))
    questions: list[Question] = []
    seen: dict[str, str] = {}
    for entry in table["question"]:
        about = entry.get("about")
        definitions = [p.format(about=about) for p in DEFINITION_PATTERNS] if about else []
        phrasings = tuple(dict.fromkeys([*definitions, *entry["ask"]]))
        for phrasing in phrasings:
            key = phrasing.lower().strip("?.! ")
            if key in seen:
                raise ValueError(
                    f"{QUESTIONS_FILE.name}: {phrasing!r} leads to {seen[key]!r} and to "
                    f"{entry['answer']!r}; keep one of them"
                )
            seen[key] = entry["answer"]
        questions.append(Question(phrasings, entry["answer"]))
    return tuple(questions)
