"""Specification as all text models' config.json write it; defaults are those of transformers' classes."""

from __future__ import annotations

from octavo.errors import ModelInvalidError
from octavo.layers.rotary import RopeConfig, context_length, default_context
from octavo.models.config_reader import ConfigReader
from octavo.models.rope import RopeDefaults, read_rope
from octavo.models.spec import ModelSpec, Task

_HEADLESS = "Model"


def read_spec(
    reader: ConfigReader,
    *,
    windows: tuple[int | None, ...] | None = None,
    default_kv_heads: int | None = None,
    default_head_dim: int | None = None,
    default_positions: int = 2048,
    rope_defaults: RopeDefaults | None = None,
    rotary: tuple[RopeConfig, ...] | None = None,
) -> ModelSpec:
    """What the worker needs, from the fields that nearly all name alike.

    Args:
        windows: Of each layer; None: no layer has one.
        default_kv_heads: Where the field is missing; None, and a null in the file: as many as heads.
        default_head_dim: Where it is missing; None: the hidden size's share of a head.
        default_positions: Where `max_position_embeddings` is missing.
        rope_defaults: None: those of most families.
        rotary: What the family has read itself; `max_position_embeddings` is then the context.

    Raises `ModelInvalidError` and `ModelUnsupportedError`.
    """
    architecture = str(reader.get("architectures")[0])
    num_heads = reader.integer("num_attention_heads")
    hidden_size = reader.integer("hidden_size")
    num_layers = reader.integer("num_hidden_layers")
    has_kv_heads = reader.has("num_key_value_heads") or default_kv_heads is None
    num_kv_heads = reader.integer(
        "num_key_value_heads", num_heads if has_kv_heads else default_kv_heads
    )
    if num_heads % num_kv_heads:
        raise ModelInvalidError(
            f"config.json: num_attention_heads is {num_heads}; it must be a multiple of "
            f"num_key_value_heads, {num_kv_heads}."
        )
    share = max(hidden_size // num_heads, 1)
    has_head_dim = reader.has("head_dim") or default_head_dim is None
    head_dim = reader.integer("head_dim", share if has_head_dim else default_head_dim)
    if head_dim % 2:
        raise ModelInvalidError(f"config.json: head_dim is {head_dim}; it must be even.")
    max_position = reader.integer("max_position_embeddings", default_positions)
    contexts = (max_position, max_position)
    if rotary is None:
        defaults = rope_defaults or RopeDefaults()
        rope = read_rope(reader, head_dim=head_dim, max_position=max_position, defaults=defaults)
        contexts = context_length(rope, max_position), default_context(rope, max_position)
        rotary = (rope,)
    return ModelSpec(
        architecture=architecture,
        task=Task.EMBED if architecture.endswith(_HEADLESS) else Task.GENERATE,
        vocab_size=reader.integer("vocab_size"),
        hidden_size=hidden_size,
        inner_size=reader.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        windows=(None,) * num_layers if windows is None else windows,
        rotary=rotary,
        context=contexts[0],
        default_context=contexts[1],
        stored_dtype=str(reader.get("dtype") or reader.get("torch_dtype") or "float32"),
    )
