"""Config of an EAGLE-3 head: what its config.json says, in the layout of `speculators`, whose decoder layer
is described by an object of its own, or in the older one of `LlamaForCausalLMEagle3`, a Llama's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.json_files import read_json_object
from octavo.layers.projection import Projection
from octavo.models.config_reader import ConfigReader
from octavo.models.families.llama import LlamaConfig
from octavo.models.families.qwen3 import Qwen3Config
from octavo.models.quantization_config import read_quantization_config
from octavo.models.spec import ModelSpec

_SPECULATORS = "speculators_config"
_LAYER = "transformer_layer_config"
_OLDER = ("LlamaForCausalLMEagle3", "Eagle3LlamaForCausalLM")
_LAYERS: Mapping[str, Callable[[ConfigReader], LlamaConfig | Qwen3Config]] = {
    "llama": LlamaConfig.read,
    "qwen3": Qwen3Config.read,
}
_FAMILY = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
# How a head was trained, and by whose hands.
_UNREAD = (
    "speculators_version",
    "embed_requires_grad",
    "enable_sp_ulysses",
    "has_no_defaults_at_init",
    "tie_word_embeddings",  # the tensors tell: a head of its own is always stored
    "target_model_type",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Eagle3Config:
    """
    Args:
        layer: The head's one layer, as a model of one layer; its vocabulary is that of the model that is
            guessed for.
        draft_vocab_size: Tokens that the head can guess.
        target_hidden_size: Of the model that is guessed for.
        watched: Its layers whose inputs the head reads; None: the published default.
        norm_before_residual: The layer's sum begins with the normalised hidden state.
        norm_before_fc: All hidden states together are normalised first.
        fc_norm: Each of them is (EAGLE-3.1).
        norm_output: The head's next row reads its last one normalised (EAGLE-3.1).
    """

    layer: LlamaConfig | Qwen3Config
    draft_vocab_size: int
    target_hidden_size: int
    watched: tuple[int, ...] | None
    norm_before_residual: bool
    norm_before_fc: bool
    fc_norm: bool
    norm_output: bool

    @property
    def spec(self) -> ModelSpec:
        return self.layer.spec

    @property
    def needs_embedding(self) -> bool:
        """The model's is of another width."""
        return self.spec.hidden_size != self.target_hidden_size

    @property
    def attention(self) -> tuple[Projection, Projection]:
        """Queries, keys and values, of an embedding and a hidden state side by side; output."""
        qkv, output = self.layer.attention(0)
        return replace(qkv, in_features=2 * self.spec.hidden_size), output

    @property
    def mlp(self) -> tuple[Projection, Projection]:
        return self.layer.mlp(0)

    @property
    def lm_head(self) -> Projection:
        return Projection(("lm_head",), self.spec.hidden_size, (self.draft_vocab_size,))

    def fuse(self, num_watched: int) -> Projection:
        """Of the hidden states side by side."""
        inputs = num_watched * self.target_hidden_size
        return Projection(("fc",), inputs, (self.spec.hidden_size,))

    def projections(self, num_watched: int) -> list[Projection]:
        """Its matrices, but for an embedding of its own."""
        return [self.fuse(num_watched), *self.attention, *self.mlp, self.lm_head]

    def watched_of(self, num_layers: int) -> tuple[int, ...]:
        """Layers of a model of `num_layers`. Raises `ModelInvalidError` where it has no such."""
        watched = self.watched
        if watched is None:
            watched = (2, num_layers // 2, num_layers - 3)
        if len(set(watched)) < len(watched) or not all(0 <= i < num_layers for i in watched):
            raise ModelInvalidError(
                f"config.json: eagle_aux_hidden_state_layer_ids is {list(watched)}"
                f"{' (the default)' if self.watched is None else ''}; the ids must differ and lie in "
                f"[0, {num_layers - 1}], for the model has {num_layers} layers. Name there those that the "
                "head was trained with."
            )
        return watched


def read_eagle3_config(folder: Path) -> Eagle3Config:
    """Raises `ModelInvalidError` for damaged files and `ModelUnsupportedError` for what is not known."""
    raw = read_json_object(folder / "config.json")
    if read_quantization_config(folder) is not None:
        raise ModelUnsupportedError(
            f"The head in {folder} is quantised, which heads are not read as. Use its 16-bit checkpoint."
        )
    if _is_of_speculators(raw):
        return _read_speculators(raw)
    if not _is_older(raw):
        raise ModelUnsupportedError(
            f"config.json: architectures is {raw.get('architectures')!r:.80}, and there is no "
            f"{_SPECULATORS}; EAGLE-3 heads are those of speculators and {' and '.join(_OLDER)}. A whole "
            "model guesses by method draft_model."
        )
    reader = ConfigReader(raw)
    own = _object(reader, "eagle_config")
    if not own.flag("use_aux_hidden_state", True):
        raise ModelUnsupportedError(
            "config.json: eagle_config.use_aux_hidden_state is false: the head reads the last hidden state "
            "alone, which is no EAGLE-3."
        )
    ids = own.get("eagle_aux_hidden_state_layer_ids")
    config = _head(reader, _layer(raw, reader), ids)
    own.refuse_unread()
    reader.refuse_unread()
    return config


def is_eagle3_head(folder: Path) -> bool:
    """Whether config.json is a head's, of speculators or older, and not a whole model's. Raises
    `ModelInvalidError` for a damaged one."""
    raw = read_json_object(folder / "config.json")
    return _is_of_speculators(raw) or _is_older(raw)


def _is_of_speculators(raw: Mapping[str, Any]) -> bool:
    return _SPECULATORS in raw or "speculators_model_type" in raw


def _is_older(raw: Mapping[str, Any]) -> bool:
    architectures = raw.get("architectures")
    return isinstance(architectures, list) and bool(architectures) and architectures[0] in _OLDER


def _read_speculators(raw: Mapping[str, Any]) -> Eagle3Config:
    reader = ConfigReader(raw)
    kind = reader.get("speculators_model_type")
    if kind != "eagle3":
        raise ModelUnsupportedError(
            f"config.json: speculators_model_type is {kind!r}; implemented is 'eagle3'."
        )
    _check_proposals(_object(reader, _SPECULATORS))
    inner = reader.get(_LAYER)
    if not isinstance(inner, Mapping):
        raise ModelInvalidError(f"config.json: {_LAYER} is {inner!r:.60}; it must be an object.")
    layer = ConfigReader(inner, _LAYER)
    config = _head(reader, _layer(inner, layer), None)
    layer.refuse_unread()
    reader.refuse_unread()
    return config


def _check_proposals(reader: ConfigReader) -> None:
    """Drafts are drawn one after the other here, and accepted exactly: how many tokens a method proposes
    (`num_speculative_tokens` says it), and how nearly right they may be, changes no answer."""
    algorithm = reader.get("algorithm")
    if algorithm != "eagle3":
        raise ModelUnsupportedError(
            f"config.json: {_SPECULATORS}.algorithm is {algorithm!r}; implemented is 'eagle3'."
        )
    methods = reader.get("proposal_methods", [])
    if not isinstance(methods, list) or not all(isinstance(one, Mapping) for one in methods):
        raise ModelInvalidError(
            f"config.json: {_SPECULATORS}.proposal_methods is {methods!r:.60}; it must be a list of objects."
        )
    kinds = [one.get("proposal_type") for one in methods]
    wanted = reader.get("default_proposal_method") or "greedy"
    if wanted != "greedy" or any(kind != "greedy" for kind in kinds):
        raise ModelUnsupportedError(
            f"config.json: {_SPECULATORS} proposes by {[*kinds, wanted]!r:.80}; implemented is 'greedy'."
        )
    reader.get("verifier")  # sizes are compared with the model that is served, whatever its name
    reader.refuse_unread()


def _layer(raw: Mapping[str, Any], reader: ConfigReader) -> LlamaConfig | Qwen3Config:
    """The decoder layer, by the reader of its family."""
    kind = reader.get("model_type", "llama")
    if not isinstance(kind, str) or kind not in _LAYERS:
        raise ModelUnsupportedError(
            f"config.json: a head's model_type is {kind!r}; implemented are {', '.join(_LAYERS)}."
        )
    layer = _LAYERS[kind](reader.with_values(architectures=[_FAMILY[kind]]))
    if layer.spec.num_layers != 1 or layer.spec.windows != (None,):
        raise ModelUnsupportedError(
            f"config.json: num_hidden_layers is {raw.get('num_hidden_layers')!r} and sliding_window is "
            f"{raw.get('sliding_window')!r}; implemented are heads of one layer without a window."
        )
    for name in _UNREAD:
        reader.get(name)
    return layer


def _head(reader: ConfigReader, layer: LlamaConfig | Qwen3Config, ids: object) -> Eagle3Config:
    spec = layer.spec
    for name in _UNREAD:
        reader.get(name)
    given = reader.get("eagle_aux_hidden_state_layer_ids")
    draft_vocab_size = reader.integer("draft_vocab_size", spec.vocab_size)
    if draft_vocab_size > spec.vocab_size:
        raise ModelInvalidError(
            f"config.json: draft_vocab_size is {draft_vocab_size}; it must be at most vocab_size, "
            f"{spec.vocab_size}: a head guesses the model's tokens, or some of them."
        )
    return Eagle3Config(
        layer=layer,
        draft_vocab_size=draft_vocab_size,
        target_hidden_size=reader.integer("target_hidden_size", spec.hidden_size),
        watched=_ids(ids if given is None else given),
        norm_before_residual=reader.flag("norm_before_residual"),
        norm_before_fc=reader.flag("norm_before_fc"),
        fc_norm=reader.flag("fc_norm"),
        norm_output=reader.flag("norm_output"),
    )


def _ids(value: object) -> tuple[int, ...] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        raise ModelInvalidError(
            f"config.json: eagle_aux_hidden_state_layer_ids is {value!r:.60}; it must be a list of integers."
        )
    return tuple(value)


def _object(reader: ConfigReader, name: str) -> ConfigReader:
    value = reader.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise ModelInvalidError(f"config.json: {name} is {value!r:.60}; it must be an object.")
    return ConfigReader(value or {}, name)
