"""RoBERTa (Liu et al., 2019), XLM-R and CamemBERT: BERT with positions behind the padding token."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from octavo.errors import ModelInvalidError
from octavo.layers.projection import Projection
from octavo.models.config_reader import ConfigReader
from octavo.models.families.bert import BertConfig
from octavo.models.score_head import score_projections

STEMS = ("Camembert", "Roberta", "XLMRoberta")

_UNUSED = re.compile(
    r"roberta\.embeddings\.position_ids|lm_head\..*|roberta\.pooler\.dense\.(weight|bias)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RobertaConfig(BertConfig):
    prefix: ClassVar[str] = "roberta."
    unused: ClassVar[re.Pattern[str]] = _UNUSED

    @classmethod
    def read(cls, reader: ConfigReader) -> Self:
        reader.get("output_past")  # of first releases; nothing reads it
        padding_id = reader.get("pad_token_id", 1)
        if not isinstance(padding_id, int) or isinstance(padding_id, bool) or padding_id < 0:
            raise ModelInvalidError(
                f"config.json: pad_token_id is {padding_id!r}; positions begin behind it, so it must be an "
                "integer of at least 0."
            )
        return cls.of(reader, padding_id=padding_id)

    def head(self) -> tuple[Projection, Projection]:
        """Both of the classifier: there is no pooler."""
        return score_projections(self.spec, "classifier.dense", "classifier.out_proj")
