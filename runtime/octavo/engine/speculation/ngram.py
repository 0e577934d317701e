"""N-gram proposer. Guesses that a sequence goes on as it did when its last tokens stood there before (prompt
look-up decoding, Saxena, 2023): answers that copy from their prompt do."""

from __future__ import annotations

from octavo.engine.requests.sequence import Sequence
from octavo.engine.speculation.ngram_index import NgramIndex
from octavo.engine.speculation.proposal import Proposal


class NgramProposer:
    """See `Proposer`. A proposal's kind is how many tokens more than `least` matched.

    Args:
        least, most: Tokens that must match, and that are compared.
        num_tokens: Of a proposal.
    """

    is_free = True

    def __init__(self, least: int, most: int, num_tokens: int) -> None:
        self._least = least
        self._most = most
        self._num_tokens = num_tokens
        self._indexes: dict[int, NgramIndex] = {}
        self.num_kinds = most - least + 1

    def propose(self, sequence: Sequence) -> Proposal | None:
        index = self._indexes.get(sequence.sequence_id)
        if index is None:
            index = self._indexes[sequence.sequence_id] = NgramIndex(self._least, self._most)
        index.extend(sequence.tokens(len(index), sequence.num_tokens))
        token_ids, length = index.look_up(self._num_tokens)
        return Proposal(token_ids, length - self._least) if token_ids else None

    def forget(self, sequence_id: int) -> None:
        self._indexes.pop(sequence_id, None)
