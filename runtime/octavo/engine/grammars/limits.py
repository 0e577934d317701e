"""Limits of what one grammar may cost. A stranger wrote it: llguidance counts its work and stops there, and
the kernel ends what it does not count."""

from __future__ import annotations

import re

from llguidance import LLParserLimits

_ALTERNATIVES = 20_000  # at one place: 500 optional members make 2,000
_BUILDING = 1_000_000  # some 20 ms of building
_STEP = 200_000  # some 15 ms of one mask
_STEP_ITEMS = 50_000
_STATES = 25_000  # 0.6 kB each: some 15 MB
_SYMBOLS = 200_000
LIMITS = LLParserLimits(
    max_items_in_row=_ALTERNATIVES,
    initial_lexer_fuel=_BUILDING,
    step_lexer_fuel=_STEP,
    step_max_items=_STEP_ITEMS,
    max_lexer_states=_STATES,
    max_grammar_size=_SYMBOLS,
    verbose_errors=False,  # a request's own text does not go into a log
)
MOST_SECONDS = 3.0
"""Of a CPU, for compiling one."""
MOST_BYTES = 2 * 2**30
"""For compiling one; a grammar may take 100 MB."""
MAX_KEPT = 32
"""Compiled ones; each holds what its lexer has seen so far, all of them half a GB at most."""
MAX_REFUSED = 1000
"""Refused ones, of which no more is kept than why, in some 500 bytes."""

_SHORTER = "Repeat less, bound lengths lower, or allow fewer values and members"
_FLATTER = "Write fewer alternatives that begin alike"
_WORDS = (
    (
        r"initial lexer configuration \(grammar\) too big.*",
        f"its expressions take more than {_BUILDING:,} steps to build, which is the limit. {_SHORTER}.",
    ),
    (
        r"grammar size \(number of symbols\) too big.*",
        f"it has more than {_SYMBOLS:,} symbols, which is the limit. {_SHORTER}.",
    ),
    (
        r"too many states.*",
        f"its expressions have more than {_STATES:,} states, which is the limit. {_SHORTER}.",
    ),
    (
        r"too many expressions constructed.*|.*fuel exhausted.*|maximum relevance check fuel.*",
        f"one token takes more than {_STEP:,} steps of its expressions, which is the limit. {_SHORTER}.",
    ),
    (
        r"current row has too many items.*|too many items \(limit.*",
        f"more than {_ALTERNATIVES:,} alternatives at one place, which is the limit. {_FLATTER}.",
    ),
)


def with_limit(why: str) -> str:
    """`why` the library stopped, with the limit and what to do where it was one of these."""
    for pattern, words in _WORDS:
        why = re.sub(pattern, words, why, count=1, flags=re.DOTALL | re.IGNORECASE)
    return why
