"""Facts: sentences with the values that an object made of them holds, under names that vary.

Some names and words stand in lists, others are invented: what is invented can only be copied, which
is what the model is to learn.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from training.demo_model.variation import WORDS, random_word

Value = Any


@dataclass(frozen=True, slots=True)
class Fact:
    """`text` is what a user writes; `values` the object; `title` names the kind of object.

    `is_told` says whether the text decides the values, rather than the one who answers.
    """

    text: str
    title: str
    values: dict[str, Value]
    is_told: bool = True

    @property
    def is_familiar(self) -> bool:
        """Whether keys and values are numbers and words that training repeats."""
        texts = (*self.values, *(v for v in self.values.values() if isinstance(v, str)))
        words = (word for text in texts for word in re.split(r"[ _,.]+", text) if word)
        return all(
            word in _known_words() or word.removesuffix("s") in _known_words() for word in words
        )


@dataclass(frozen=True, slots=True)
class _Field:
    keys: tuple[str, ...]
    draw: Callable[[Random], Value]


@dataclass(frozen=True, slots=True)
class _Kind:
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    fields: tuple[_Field, ...]


def draw_fact(rng: Random) -> Fact:
    """A sentence and its object, with one to four keys."""
    draw = rng.random()
    if draw < 0.25:
        return _joke(rng)
    if draw < 0.35:
        return _tags(rng)
    if draw < 0.45:
        return _opinion(rng)
    kind = rng.choice(_KINDS)
    values = [one.draw(rng) for one in kind.fields]
    keys = draw_keys(rng, [one.keys for one in kind.fields])
    order = list(range(len(keys)))
    rng.shuffle(order)
    return Fact(
        rng.choice(kind.texts).format(*values),
        draw_title(rng, kind.titles),
        {keys[i]: values[i] for i in order},
    )


def draw_familiar_fact(rng: Random) -> Fact:
    """One of which nothing has to be copied letter by letter."""
    while not (fact := draw_fact(rng)).is_familiar:
        pass
    return fact


def draw_anything(rng: Random, text: str) -> Fact:
    """An object that has nothing to do with `text`, as a grammar may force it: short values."""
    keys = draw_keys(rng, [WORDS["keys"]] * rng.randint(1, 4))
    values: dict[str, Value] = {key: _any_value(rng) for key in keys}
    if rng.random() < 0.15:
        values[keys[0]] = {key: _any_value(rng) for key in draw_keys(rng, [WORDS["keys"]] * 2)}
    return Fact(
        text, draw_title(rng, ("Answer", "Result", "Output", "Record")), values, is_told=False
    )


def draw_name(rng: Random) -> str:
    """A person's name, known or invented."""
    name = rng.choice(WORDS["first_names"]) if rng.random() < 0.5 else invented(rng).capitalize()
    return f"{name} {invented(rng).capitalize()}" if rng.random() < 0.15 else name


def draw_town(rng: Random) -> str:
    """A town, known or invented, sometimes with what follows a comma in America."""
    town = rng.choice(WORDS["towns"]) if rng.random() < 0.7 else invented(rng).capitalize()
    return f"{town}, {rng.choice(WORDS['states'])}" if rng.random() < 0.4 else town


def draw_keys(rng: Random, known: list[Any]) -> list[str]:
    """One key for each list of known ones, all different; now and then an invented one."""
    keys: list[str] = []
    for choices in known:
        key = rng.choice(choices) if rng.random() < 0.75 else invented(rng)
        if rng.random() < 0.1:
            key = f"{key}_{rng.choice(WORDS['keys'])}"
        while key in keys:
            key = f"{rng.choice(WORDS['keys'])}_{key}"
        keys.append(key)
    return keys


def draw_title(rng: Random, titles: tuple[str, ...]) -> str:
    """Of a schema or a tool."""
    return rng.choice(titles) if rng.random() < 0.75 else invented(rng).capitalize()


def invented(rng: Random) -> str:
    """A word of ASCII letters that can only be copied."""
    while not (word := random_word(rng)).isascii():
        pass
    return word


@cache
def _known_words() -> frozenset[str]:
    known = (*(key for kind in _KINDS for one in kind.fields for key in one.keys), *_OTHER_KEYS)
    lists = ("first_names", "towns", "states", "keys", "things", "qualities")
    texts = (*known, *(text for name in lists for text in WORDS[name]))
    return frozenset(word for text in texts for word in re.split(r"[ _,.]+", text))


def _joke(rng: Random) -> Fact:
    topic, other = rng.choice(WORDS["things"]), rng.choice(WORDS["things"])
    topic += "s" if rng.random() < 0.7 else ""
    setup = rng.choice(_SETUPS).format(topic=topic, other=other)
    punchline: str | None = rng.choice(_PUNCHLINES).format(topic=topic, other=other)
    draw = rng.random()
    if draw < 0.15:
        text, punchline = rng.choice(_HALF_ASKED).format(topic=topic), None
    else:
        text = rng.choice(_ASKED).format(topic=topic)
    keys = draw_keys(rng, list(_JOKE_KEYS))
    values: dict[str, Value] = dict(zip(keys, (setup, punchline), strict=True))
    if rng.random() < 0.15:
        values[rng.choice(("rating", "stars", "score"))] = rng.choice((None, rng.randint(1, 10)))
    return Fact(text, draw_title(rng, ("Joke", "Riddle", "Fun")), values, is_told=False)


def _tags(rng: Random) -> Fact:
    words = [rng.choice(WORDS["things"]) for _ in range(rng.randint(1, 4))]
    text = rng.choice(("Tags: {0}", "I need {0}.", "The list is {0}.")).format(", ".join(words))
    (key,) = draw_keys(rng, [_TAG_KEYS])
    values: dict[str, Value] = {key: words}
    if rng.random() < 0.4:
        values["count" if rng.random() < 0.5 else "number"] = len(words)
    return Fact(text, draw_title(rng, ("Tags", "List", "Items")), values)


def _opinion(rng: Random) -> Fact:
    name, thing, likes = draw_name(rng), rng.choice(WORDS["things"]), rng.random() < 0.5
    text = f"{name} {'likes' if likes else 'does not like'} the {thing}."
    keys = draw_keys(rng, list(_OPINION_KEYS))
    return Fact(
        text,
        draw_title(rng, ("Opinion", "Taste")),
        dict(zip(keys, (name, thing, likes), strict=True)),
    )


def _any_value(rng: Random) -> Value:
    draw = rng.random()
    if draw < 0.6:
        return rng.choice(_SHORT_TEXTS).format(thing=rng.choice(WORDS["things"]))
    if draw < 0.8:
        return rng.randint(0, 100)
    if draw < 0.85:
        return rng.randint(0, 99) + rng.choice((0.5, 0.25))
    if draw < 0.92:
        return rng.random() < 0.5
    if draw < 0.95:
        return None
    return [rng.choice(WORDS["things"]) for _ in range(rng.randint(0, 3))]


def _foreign_name(rng: Random) -> str:
    """A name in any script, Chinese and Japanese among them, or of two words."""
    draw = rng.random()
    if draw < 0.35:
        return "".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(rng.randint(2, 6)))
    if draw < 0.5:
        return "".join(chr(rng.randint(0x3041, 0x30FE)) for _ in range(rng.randint(2, 6)))
    if draw < 0.6:
        return "".join(chr(rng.randint(0xA1, 0x5FF)) for _ in range(rng.randint(2, 8)))
    return " ".join(invented(rng).capitalize() for _ in range(rng.randint(1, 2)))


def _thing(rng: Random) -> str:
    return rng.choice(WORDS["things"])


def _age(rng: Random) -> int:
    return rng.randint(1, 99)


def _amount(rng: Random) -> int:
    return rng.randint(2, 99) if rng.random() < 0.7 else rng.randint(100, 5000)


def _price(rng: Random) -> float | int:
    return rng.randint(1, 99) + rng.choice((0, 0, 0.5, 0.25))


_NAME = _Field(("name", "person", "first_name", "full_name", "user"), draw_name)
_KINDS = (
    *[
        _Kind(
            ("Person", "User", "Member", "Patient"),
            (
                "{0} is {1} years old.",
                "{0} is {1}.",
                "My name is {0} and I am {1}.",
                "{0}, aged {1}",
                "I am {0}, {1} years old.",
                "{0} turned {1} last week.",
            ),
            (_NAME, _Field(("age", "years", "age_years"), _age)),
        )
    ]
    * 3,
    _Kind(
        ("Address", "Home", "Person"),
        ("{0} lives in {1}.", "{0} comes from {1}.", "{0} moved to {1}."),
        (_NAME, _Field(("city", "town", "place", "home", "location"), draw_town)),
    ),
    _Kind(
        ("Order", "Purchase", "Sale"),
        ("{0} bought {1} of the {2}.", "{0} ordered {1} x {2}.", "{0} wants {1} {2}s."),
        (
            _NAME,
            _Field(("quantity", "count", "amount", "number"), _amount),
            _Field(("item", "product", "thing", "article"), _thing),
        ),
    ),
    _Kind(
        ("Product", "Price", "Article"),
        ("A {0} costs {1} euros.", "The {0} is {1} dollars.", "{0}: {1} EUR"),
        (
            _Field(("item", "product", "title", "name"), _thing),
            _Field(("price", "cost", "euros"), _price),
        ),
    ),
    _Kind(
        ("Weather", "Report", "Measurement"),
        ("It is {1} degrees in {0}.", "{0} has {1} degrees today."),
        (
            _Field(("city", "town", "place", "location"), draw_town),
            _Field(("degrees", "temperature", "value"), _age),
        ),
    ),
    *[
        _Kind(
            ("Customer", "Company", "Project", "Shop"),
            (
                "Make a shop called '{0}': {1}",
                "Add the company '{0}', {1}.",
                "Open a project named '{0}' - {1}",
                "A new customer is '{0}' ({1}).",
            ),
            (
                _Field(("name", "title", "label", "company", "shop_name"), _foreign_name),
                _Field(
                    ("description", "about", "note", "text"),
                    lambda rng: f"{rng.choice(WORDS['qualities'])} {_thing(rng)}s",
                ),
            ),
        )
    ]
    * 2,
)
_TAG_KEYS = ("tags", "items", "words", "list", "things")
_OPINION_KEYS = (("name", "person"), ("thing", "object", "what"), ("likes", "is_liked"))
_JOKE_KEYS = (("setup", "question", "opening"), ("punchline", "answer", "ending"))
_OTHER_KEYS = (*_TAG_KEYS, *(key for keys in (*_OPINION_KEYS, *_JOKE_KEYS) for key in keys))
_ASKED = (
    "Tell me a joke about {topic}.",
    "Give me a joke about {topic}.",
    "Tell a joke about a {topic}",
    "Do you know a joke about {topic}?",
    "A joke about {topic}, please, with the punchline.",
    "Make me laugh about {topic}.",
)
_HALF_ASKED = (
    "Only the setup of a joke about {topic}, without a punchline.",
    "Begin a joke about {topic}, no punchline please.",
)
_SETUPS = (
    "Why did the {topic} cross the road?",
    "What did the {topic} say?",
    "Why are {topic} so funny?",
    "Who likes {topic}?",
)
_PUNCHLINES = (
    "To see the {other}.",
    "Nothing at all.",
    "Ask the {other}!",
    "The {other} does.",
)
_SHORT_TEXTS = ("unknown", "none", "the {thing}", "a {thing}", "yes", "{thing}")
