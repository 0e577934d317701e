"""What config.json says of a decoder, checked, under one set of names for all families."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.layers.rotary import RopeConfig, RopeScaling


class Activation(enum.Enum):
    """Of the feed-forward blocks' gate, by the names of config.json."""

    SILU = "silu"
    GELU_TANH = "gelu_pytorch_tanh"


@dataclass(frozen=True, slots=True)
class ExpertsConfig:
    """Mixture of experts: each token runs through `num_per_token` of `num_experts`."""

    num_experts: int
    num_per_token: int


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Shape of a pre-norm decoder.

    Args:
        checkpoint_dtype: What the weights are stored in, such as `bfloat16`.
        max_position_embeddings: Context in tokens that the model was trained for.
        qkv_bias, output_bias, mlp_bias: Which projections have biases.
        has_head_norm: Queries and keys are normalised per head.
        has_output_norms: Attention and feed-forward are normalised after as well as before (Gemma 2).
        has_offset_norms: The norms' weights are stored less one (Gemma).
        experts: In place of one feed-forward block, or None.
        attention_scale: Multiplies the scores; None: `head_dim ** -0.5`.
        attention_softcap, logits_softcap: Scores become `cap * tanh(score / cap)`; None: they stay.
        embedding_scale: Multiplies the token embeddings.
        sliding_windows: Of each layer, in tokens, None for full attention; empty when no layer has one.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    max_position_embeddings: int
    rope: RopeConfig
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    has_head_norm: bool = False
    has_output_norms: bool = False
    has_offset_norms: bool = False
    activation: Activation = Activation.SILU
    experts: ExpertsConfig | None = None
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logits_softcap: float | None = None
    embedding_scale: float = 1.0
    sliding_windows: tuple[int | None, ...] = ()
    checkpoint_dtype: str = "float32"
    eos_token_ids: tuple[int, ...] = ()

    @property
    def num_parameters(self) -> int:
        """Weights of the matrices, biases and norms left out."""
        attention = self.hidden_size * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        blocks = 1 if self.experts is None else self.experts.num_experts
        layer = attention + blocks * 3 * self.hidden_size * self.intermediate_size
        tables = 1 if self.tie_word_embeddings else 2
        return self.num_layers * layer + tables * self.vocab_size * self.hidden_size


def read_json_object(path: Path) -> dict[str, Any]:
    """Raises `ModelInvalidError` when the file is missing or no JSON object."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelInvalidError(f"{path.parent} holds no {path.name}.") from error
    except (ValueError, OSError) as error:
        raise ModelInvalidError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelInvalidError(f"{path} must hold a JSON object, not a {type(value).__name__}.")
    return value


class ConfigReader:
    """Typed look-ups in a config.json, whose errors name the field.

    Raises `ModelInvalidError` from every method when a field is missing or of the wrong kind.
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.raw.get(name)
        if value is None:
            value = default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelInvalidError(
                f"config.json: {name} is {value!r}; it must be a positive integer."
            )
        return value

    def number(self, name: str, default: float) -> float:
        value = self.raw.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ModelInvalidError(f"config.json: {name} is {value!r}; it must be a number.")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.raw.get(name, default)
        if not isinstance(value, bool):
            raise ModelInvalidError(f"config.json: {name} is {value!r}; it must be true or false.")
        return value

    def softcap(self, name: str, default: float | None) -> float | None:
        """A positive number, or None where the file says null."""
        if name not in self.raw:
            return default
        if self.raw[name] is None:
            return None
        value = self.number(name, 0.0)
        if value <= 0.0:
            raise ModelInvalidError(
                f"config.json: {name} is {value:g}; it must be above 0, or null."
            )
        return value

    def token_ids(self, name: str) -> tuple[int, ...]:
        value = self.raw.get(name)
        values = value if isinstance(value, list) else [value]
        return tuple(v for v in values if isinstance(v, int) and not isinstance(v, bool))

    def decoder(
        self,
        architecture: str,
        *,
        ties_by_default: bool = False,
        activation: str | None = None,
        **family: Any,
    ) -> DecoderConfig:
        """The fields that all families name alike.

        Args:
            ties_by_default: What a missing `tie_word_embeddings` means.
            activation: Its name, where the family has a field of its own for it.
            family: Further fields of `DecoderConfig`.
        """
        self._refuse_quantised()
        num_heads = self.integer("num_attention_heads")
        hidden_size = self.integer("hidden_size")
        num_kv_heads = self.integer("num_key_value_heads", num_heads)
        if num_heads % num_kv_heads:
            raise ModelInvalidError(
                f"config.json: num_attention_heads is {num_heads}; it must be a multiple of "
                f"num_key_value_heads, {num_kv_heads}."
            )
        head_dim = self.integer("head_dim", max(hidden_size // num_heads, 1))
        if head_dim % 2:
            raise ModelInvalidError(f"config.json: head_dim is {head_dim}; it must be even.")
        max_position = self.integer("max_position_embeddings", 2048)
        return DecoderConfig(
            architecture=architecture,
            vocab_size=self.integer("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=self.integer("intermediate_size"),
            num_layers=self.integer("num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            rms_norm_eps=self.number("rms_norm_eps", 1e-6),
            max_position_embeddings=max_position,
            rope=self._rope(max_position),
            tie_word_embeddings=self.flag("tie_word_embeddings", ties_by_default),
            activation=_activation(activation or self.raw.get("hidden_act", "silu")),
            checkpoint_dtype=str(self.raw.get("dtype") or self.raw.get("torch_dtype") or "float32"),
            eos_token_ids=self.token_ids("eos_token_id"),
            **family,
        )

    def _refuse_quantised(self) -> None:
        if self.raw.get("quantization_config") is not None:
            method = self.raw["quantization_config"].get("quant_method", "unknown")
            raise ModelUnsupportedError(
                f"config.json: the weights are quantised ({method}), which is not implemented. Use "
                "the model's bf16 checkpoint."
            )

    def _rope(self, max_position: int) -> RopeConfig:
        """Reads `rope_parameters` (transformers 5) or `rope_theta` with `rope_scaling` (before)."""
        given = self.raw.get("rope_parameters") or self.raw.get("rope_scaling") or {}
        if not isinstance(given, dict):
            raise ModelInvalidError("config.json: rope_parameters must be an object.")
        rope = ConfigReader(given)
        kind = given.get("rope_type", given.get("type", "default"))
        try:
            scaling = RopeScaling(kind)
        except ValueError as error:
            raise ModelUnsupportedError(
                f"config.json: rope_type is {kind!r}; implemented are "
                f"{', '.join(s.value for s in RopeScaling)}."
            ) from error
        if rope.number("partial_rotary_factor", self.number("partial_rotary_factor", 1.0)) != 1.0:
            raise ModelUnsupportedError(
                "config.json: partial_rotary_factor below 1 is not implemented."
            )
        attention_factor = given.get("attention_factor")
        return RopeConfig(
            theta=rope.number("rope_theta", self.number("rope_theta", 10_000.0)),
            scaling=scaling,
            factor=rope.number("factor", 1.0),
            original_max_position=rope.integer(
                "original_max_position_embeddings",
                self.raw.get("original_max_position_embeddings", max_position),
            ),
            low_freq_factor=rope.number("low_freq_factor", 1.0),
            high_freq_factor=rope.number("high_freq_factor", 4.0),
            beta_fast=rope.number("beta_fast", 32.0),
            beta_slow=rope.number("beta_slow", 1.0),
            attention_factor=None if attention_factor is None else float(attention_factor),
        )


def _activation(name: object) -> Activation:
    try:
        return Activation("silu" if name == "swish" else name)
    except ValueError as error:
        raise ModelUnsupportedError(
            f"config.json: hidden_act is {name!r}; implemented are "
            f"{', '.join(one.value for one in Activation)}."
        ) from error
