"""EAGLE-3: heads that guess a model's next tokens from its own hidden states (Li et al., 2025)."""

from octavo.models.eagle3.config import Eagle3Config, is_eagle3_head, read_eagle3_config
from octavo.models.eagle3.head import Eagle3Head, build_eagle3

__all__ = ["Eagle3Config", "Eagle3Head", "build_eagle3", "is_eagle3_head", "read_eagle3_config"]
