"""Specification of an encoder, as BERT and its kin write config.json."""

from __future__ import annotations

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.layers.rotary import RopeConfig, RopeScaling
from octavo.models.config_reader import ConfigReader
from octavo.models.spec import ModelSpec, Task

SCORES = "ForSequenceClassification"
"""End of the name of an architecture that scores."""
_ABSOLUTE = "absolute"


def read_encoder_spec(
    reader: ConfigReader,
    *,
    first_position: int = 0,
    default_context: int = 512,
    windows: tuple[int | None, ...] | None = None,
    rotary: tuple[RopeConfig, ...] = (),
) -> ModelSpec:
    """What the worker needs.

    Args:
        first_position: Rows of the table of positions before that of a sequence's first token.
        default_context: Where `max_position_embeddings` is missing.
        windows: Of each layer, in both directions; None: each token sees all others.
        rotary: What turns queries and keys, where positions are no part of the embeddings.

    Raises `ModelInvalidError` and `ModelUnsupportedError`.
    """
    for name in ("is_decoder", "is_causal"):
        if reader.get(name):
            raise ModelUnsupportedError(
                f"config.json: {name} is {reader.get(name)!r}, and the architecture is served as an encoder, "
                "whose tokens see all others."
            )
    reader.get("tie_word_embeddings")  # of a head that is not read
    kind = reader.get("position_embedding_type") or _ABSOLUTE
    if kind != _ABSOLUTE:
        raise ModelUnsupportedError(
            f"config.json: position_embedding_type is {kind!r}; implemented is {_ABSOLUTE}."
        )
    if any(rope.scaling is RopeScaling.LONGROPE for rope in rotary):
        raise ModelUnsupportedError(
            "config.json: rope_type is longrope, which turns long sequences otherwise than short ones; "
            "implemented for an encoder are those that turn all alike."
        )
    architecture = str(reader.get("architectures")[0])
    num_heads = reader.integer("num_attention_heads")
    hidden_size = reader.integer("hidden_size")
    num_layers = reader.integer("num_hidden_layers")
    if hidden_size % num_heads:
        raise ModelInvalidError(
            f"config.json: hidden_size is {hidden_size}; it must be a multiple of num_attention_heads, "
            f"{num_heads}."
        )
    head_dim = hidden_size // num_heads
    if reader.integer("head_dim", head_dim) != head_dim:
        raise ModelUnsupportedError(
            f"config.json: head_dim is {reader.get('head_dim')}; implemented is hidden_size / "
            f"num_attention_heads, {head_dim}."
        )
    context = reader.integer("max_position_embeddings", default_context) - first_position
    if context < 1:
        raise ModelInvalidError(
            "config.json: max_position_embeddings leaves no position: the first token's is "
            f"{first_position}."
        )
    return ModelSpec(
        architecture=architecture,
        task=Task.SCORE if architecture.endswith(SCORES) else Task.EMBED,
        vocab_size=reader.integer("vocab_size"),
        hidden_size=hidden_size,
        inner_size=reader.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=head_dim,
        windows=(None,) * num_layers if windows is None else windows,
        rotary=rotary,
        context=context,
        default_context=context,
        stored_dtype=str(reader.get("dtype") or reader.get("torch_dtype") or "float32"),
    )
