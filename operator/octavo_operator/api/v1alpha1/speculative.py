"""Speculative decoding. `spec.engine.speculative`: the members of `octavo serve --speculative-config`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from octavo_operator.api.v1alpha1.base import ApiModel, cel_between, rules
from octavo_operator.api.v1alpha1.source import ModelSource, SecretReference, builtin


class SpeculativeMethod(StrEnum):
    """Who guesses."""

    NGRAM = "ngram"
    DRAFT_MODEL = "draft_model"
    EAGLE3 = "eagle3"


LookupTokens = Annotated[int, Field(ge=1, le=16)]


class DraftSource(ModelSource):
    """Where what guesses comes from."""

    secret_ref: SecretReference | None = Field(
        default=None,
        description="Secret of its download; when absent, that of `model.secretRef` where both URIs have one "
        "scheme, and else none. The serving container does not see it.",
    )


def _is_for_ngram(field: str) -> dict[str, Any]:
    return cel_between(
        f"!has(self.{field}) || self.method == '{SpeculativeMethod.NGRAM}'",
        "is for method ngram, and has no effect where a model guesses",
        field,
    )


class SpeculativeSpec(ApiModel):
    """Guesses several tokens a step, and keeps those that the model gives itself."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel_between(
                "!has(self.promptLookupMin) || !has(self.promptLookupMax) || "
                "self.promptLookupMin <= self.promptLookupMax",
                "must not be larger than promptLookupMax",
                "promptLookupMin",
            ),
            _is_for_ngram("promptLookupMin"),
            _is_for_ngram("promptLookupMax"),
            cel_between(
                f"has(self.model) == (self.method != '{SpeculativeMethod.NGRAM}')",
                "is needed for the methods draft_model and eagle3, and has no effect with ngram",
                "model",
            ),
            cel_between(
                f"self.method != '{SpeculativeMethod.EAGLE3}' || !has(self.model) || "
                f"!{builtin('self.model.uri')}",
                "must be hf://, s3:// or pvc:// for method eagle3: the runtime image holds no head",
                "model",
            ),
        )
    )

    method: SpeculativeMethod = Field(
        description="Who guesses. ngram takes guesses from the prompt and the answer so far, draft_model "
        "from a smaller model of the same vocabulary, eagle3 from a head that was trained for this model."
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
    model: DraftSource | None = Field(
        default=None,
        description="For draft_model and eagle3: the draft model or the head. It is fetched as the model "
        "is, into the same cache, and lies beside it: `model.cache.size`, `resources.ephemeralStorage` and "
        "`resources.memory` are for both.",
    )
