"""Speculative decoding. `spec.engine.speculative`: the members of `octavo serve --speculative-config`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from octavo_operator.api.v1alpha1.base import ApiModel, cel_between, rules


class SpeculativeMethod(StrEnum):
    """Who guesses. The flag's methods that need a second model are not offered here yet."""

    NGRAM = "ngram"


LookupTokens = Annotated[int, Field(ge=1, le=16)]


class SpeculativeSpec(ApiModel):
    """Guesses several tokens a step, and keeps those that the model gives itself."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel_between(
                "!has(self.promptLookupMin) || !has(self.promptLookupMax) || "
                "self.promptLookupMin <= self.promptLookupMax",
                "must not be larger than promptLookupMax",
                "promptLookupMin",
            )
        )
    )

    method: SpeculativeMethod = Field(
        description="Who guesses. ngram takes guesses from the prompt and the answer so far."
    )
    num_speculative_tokens: Annotated[int, Field(ge=1, le=32)] | None = Field(
        default=None,
        description="Guesses of one sequence in a step at most, 4 when absent; how many run follows what "
        "was measured.",
    )
    prompt_lookup_min: LookupTokens | None = Field(
        default=None,
        description="Tokens that must have stood there before. When absent promptLookupMax, and 2 without "
        "both.",
    )
    prompt_lookup_max: LookupTokens | None = Field(
        default=None,
        description="Tokens that are compared. When absent promptLookupMin, and 5 without both.",
    )
