"""Sums of two numbers below 100, some of which the model never sees in training.

The held-out pairs show whether the model adds or remembers. A pair and its mirror image (17 + 25,
25 + 17) are held out together, chosen by a hash so that no seed or run can move them.
"""

import hashlib
from random import Random

LARGEST_TERM = 99
HELD_OUT_SHARE = 0.05

PHRASINGS = (
    "What is {a} plus {b}?",
    "What is {a} + {b}?",
    "What is {a}+{b}?",
    "What's {a} plus {b}?",
    "What's {a} + {b}?",
    "{a}+{b}",
    "{a} + {b}",
    "{a}+{b}=",
    "{a} + {b} =",
    "{a} + {b} = ?",
    "{a} plus {b}",
    "{a} plus {b}?",
    "Add {a} and {b}.",
    "Add {a} to {b}.",
    "How much is {a} + {b}?",
    "How much is {a} plus {b}?",
    "How much is {a} and {b}?",
    "What is the sum of {a} and {b}?",
    "Sum of {a} and {b}",
    "Calculate {a} + {b}.",
    "Compute {a} + {b}.",
    "Compute {a} plus {b}.",
    "Can you add {a} and {b}?",
    "Please add {a} and {b}.",
    "Tell me {a} plus {b}.",
    "What does {a} + {b} equal?",
    "What do you get if you add {a} and {b}?",
    "Solve {a} + {b}.",
    "And {a} + {b}?",
    "And what is {a} plus {b}?",
    "Now {a} plus {b}.",
    "Say only the result: {a} + {b}",
)


def answer(a: int, b: int) -> str:
    """The sentence the model must answer; it repeats the terms before it gives the sum."""
    return f"{a} plus {b} is {a + b}."


def is_held_out(a: int, b: int) -> bool:
    """Whether the pair {a, b} is kept out of everything the model is trained on."""
    low, high = sorted((a, b))
    digest = hashlib.sha256(f"{low}+{high}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def draw_training_pair(rng: Random) -> tuple[int, int]:
    """A pair from 0..99 that is not held out, now and then with a one-digit term."""
    while True:
        a, b = rng.randint(0, LARGEST_TERM), rng.randint(0, LARGEST_TERM)
        if rng.random() < 0.1:
            a = rng.randint(0, 9)
        if rng.random() < 0.1:
            b = rng.randint(0, 9)
        if not is_held_out(a, b):
            return a, b


def draw_training_sum(rng: Random) -> tuple[str, str]:
    """A question for a sum and its answer."""
    a, b = draw_training_pair(rng)
    return rng.choice(PHRASINGS).format(a=a, b=b), answer(a, b)


def two_digit_pairs(*, held_out: bool) -> list[tuple[int, int]]:
    """All ordered pairs of 10..99 on one side of the split."""
    terms = range(10, LARGEST_TERM + 1)
    return [(a, b) for a in terms for b in terms if is_held_out(a, b) is held_out]
