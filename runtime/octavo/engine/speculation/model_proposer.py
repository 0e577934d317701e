"""Model proposer. Leaves the guesses to the executor, which has a model for them."""

from __future__ import annotations

from octavo.engine.requests.sequence import Sequence
from octavo.engine.speculation.proposal import Proposal
from octavo.worker.batch import PENDING_TOKEN


class ModelProposer:
    """See `Proposer`."""

    num_kinds = 1
    is_free = False

    def __init__(self, num_tokens: int) -> None:
        self._proposal = Proposal([PENDING_TOKEN] * num_tokens)

    def propose(self, sequence: Sequence) -> Proposal | None:
        del sequence
        return self._proposal

    def forget(self, sequence_id: int) -> None:
        pass
