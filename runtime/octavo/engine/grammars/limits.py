"""Limits of what one grammar may cost. A stranger wrote it: llguidance counts its work and stops there."""

from __future__ import annotations

from llguidance import LLParserLimits

LIMITS = LLParserLimits(
    max_items_in_row=20_000,  # alternatives at one place: 500 optional members make 2,000
    initial_lexer_fuel=1_000_000,  # some 20 ms of building
    step_lexer_fuel=200_000,  # some 15 ms of one mask
    step_max_items=50_000,
    max_lexer_states=25_000,  # 0.6 kB each: some 15 MB
    max_grammar_size=200_000,
    verbose_errors=False,  # a request's own text does not go into a log
)
MAX_KEPT = 32
"""Compiled ones; each holds what its lexer has seen so far, all of them half a GB at most."""
