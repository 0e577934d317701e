"""Compiled grammar: of any number of completions, which share a lexer.

A lexer remembers what it has seen, which makes masks cheap, and so it breaks for all at once: by a fault of
the library in one of them, or by having seen more than it may hold. Whoever broke it ends; the others go on
with another lexer, and requests that come later get a grammar that is compiled anew.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence

from llguidance import LLMatcher

from octavo.engine.grammars.progress import GrammarProgress, StartedMatcher
from octavo.sampling.state import MaskSource

_MAX_RENEWALS = 3
_MAX_SECONDS = 0.1
"""Of a thread's time, while all others wait: what takes longer to compile is not compiled again for them."""
_lexers = itertools.count()


class CompiledGrammar:
    """
    Args:
        compile_anew: Makes a matcher at the beginning, which shares nothing with others.
        source: Of the completions' masks.
        vocab_size: Of the model.

    Attributes:
        is_broken: No completion should start with it.
    """

    def __init__(
        self,
        compile_anew: Callable[[], LLMatcher],
        source: MaskSource,
        vocab_size: int,
        end_token_ids: Sequence[int],
    ) -> None:
        self._compile_anew = compile_anew
        self._source = source
        self._vocab_size = vocab_size
        self._end_token_ids = end_token_ids
        self._renewing = threading.Lock()
        self._renewals_left = _MAX_RENEWALS
        self._is_told = False  # of the lexer that there is now
        self.is_broken = False
        before = time.thread_time()
        self.matcher = compile_anew()
        self._seconds = time.thread_time() - before
        self._lexer = next(_lexers)

    def start(self) -> GrammarProgress:
        """At the beginning of a completion."""
        started = StartedMatcher(self.matcher.deep_copy(), self._lexer)
        return GrammarProgress(
            started, self._source, self._vocab_size, self._end_token_ids, self._renewed
        )

    def _renewed(self, lexer: int, *, is_victim: bool) -> StartedMatcher | None:
        """Of a completion whose lexer broke, a matcher of another; None: it is at an end.

        Args:
            is_victim: Something else broke it, as it does for all but the first that tells of a lexer.
        """
        with self._renewing:
            self.is_broken = True
            if lexer == self._lexer:
                if not is_victim and not self._is_told:
                    self._is_told = True
                    return None
                if self._renewals_left == 0 or self._seconds > _MAX_SECONDS:
                    return None
                self._renewals_left -= 1
                self.matcher, self._lexer = self._compile_anew(), next(_lexers)
                self._is_told = False
            return StartedMatcher(self.matcher.deep_copy(), self._lexer)
