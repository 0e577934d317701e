"""Generic model path. Families without a file of their own run transformers' modules over the paged KV cache.

`read_transformers_config` is the door; `octavo.models.registry` says who comes through it.
"""

from octavo.models.from_transformers.config import TransformersConfig, read_transformers_config
from octavo.models.from_transformers.refusals import own_code_first

__all__ = ["TransformersConfig", "own_code_first", "read_transformers_config"]
