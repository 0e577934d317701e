"""Start of speculation: from the user's wish to who proposes, or a refusal by name."""

from __future__ import annotations

from octavo.engine.speculation.model_proposer import ModelProposer
from octavo.engine.speculation.ngram import NgramProposer
from octavo.engine.speculation.proposal import Proposer
from octavo.engine.speculation.speculation import Speculation
from octavo.errors import InvalidConfigurationError
from octavo.speculative_config import SpeculativeConfig, SpeculativeMethod
from octavo.worker.batch import ExecutorInfo

_LEAD = 16
"""Steps that a head follows before it guesses. What it has not seen a draft model reads."""


def start_speculation(config: SpeculativeConfig | None, info: ExecutorInfo) -> Speculation | None:
    """None where it is off.

    Raises `InvalidConfigurationError` where the executor cannot run drafts.
    """
    if config is None:
        return None
    if info.runs_whole_prompts or not info.can_generate:
        raise InvalidConfigurationError(
            "speculative_config is given, and the model generates no text. Leave --speculative-config out."
        )
    num_tokens = config.num_speculative_tokens
    proposer: Proposer = ModelProposer(num_tokens)
    if config.method is SpeculativeMethod.NGRAM:
        proposer = NgramProposer(*config.lookup, num_tokens)
    return Speculation(
        proposer,
        num_tokens,
        max_drafts=info.max_drafts,
        overlaps=info.is_asynchronous,
        lead=_LEAD if config.method is SpeculativeMethod.EAGLE3 else 0,
    )
