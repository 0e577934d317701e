"""What families list of a model from its config.json is what they ask a checkpoint for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch

from octavo.kernels import reference
from octavo.kernels.reference import device as reference_device
from octavo.layers.linear import Linear
from octavo.layers.projection import Projection, Shard
from octavo.layers.step import AttentionSpec, Step
from octavo.loading import DummyWeights, Placement, Slice, WeightSource
from octavo.models.base import ModelConfig
from octavo.models.blocks import DecoderStack
from octavo.models.building import build_model
from octavo.models.registry import FAMILIES, read_config
from octavo.quantization import Unquantised

META = Placement(torch.bfloat16, torch.device("meta"))
SIZES = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tie_word_embeddings": False,
}
MIXTRAL_8X7B = {
    "architectures": ["MixtralForCausalLM"],
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}


class MetaWeights:
    """Shapes alone; counts what is asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[int, ...]] = {}

    def names(self) -> Collection[str]:
        return ()

    def has(self, name: str) -> bool:
        return False

    def shape(self, name: str) -> tuple[int, ...] | None:
        return None

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        assert not self.asked.keys() & shapes.keys()
        self.asked.update(shapes)
        return [META.empty(*shape) for shape in shapes.values()]

    def note(self, problem: str) -> None:
        raise AssertionError(problem)

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        pass


def asked_for(config: ModelConfig, kernels: Any) -> dict[str, tuple[int, ...]]:
    weights = MetaWeights()
    build_model(config, weights, scheme=Unquantised(is_plain=True), kernels=kernels, placement=META)
    return weights.asked


@pytest.mark.parametrize("kernels", [reference, reference_device])
@pytest.mark.parametrize("has_biases", [False, True])
@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_each_listed_product_is_read_once_and_no_other(
    architecture: str, has_biases: bool, kernels: Any
) -> None:
    biases = dict.fromkeys(("attention_bias", "mlp_bias"), has_biases)
    config = read_config({"architectures": [architecture], **SIZES, **biases})
    head = config.tables.head
    assert head is not None
    listed: dict[str, tuple[int, ...]] = {}
    for projection in (*config.projections(), config.tables.embedding, head):
        for name, width in projection.stored_widths.items():
            listed[f"{name}.weight"] = (width, projection.in_features)
            if projection.bias:
                listed[f"{name}.bias"] = (width,)
    asked = asked_for(config, kernels)
    others = {name: shape for name, shape in asked.items() if listed.get(name) != shape}
    assert len(asked) == len(others) + len(listed)
    assert all(len(shape) == 1 or name.endswith("gate.weight") for name, shape in others.items())
    assert sum(math.prod(shape) for shape in listed.values() if len(shape) == 2) == (
        config.num_parameters
    )


def test_mixtral_8x7b_takes_each_of_its_weights_once() -> None:
    config = read_config(MIXTRAL_8X7B)
    asked = asked_for(config, reference_device)
    elements = sum(
        math.prod(shape)
        for name, shape in asked.items()
        if len(shape) > 1 and not name.endswith("gate.weight")
    )
    assert elements == config.num_parameters
    assert 46.6e9 < elements < 46.8e9


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_what_comes_of_a_product_sharded_by_inputs_is_as_wide_as_the_stream(
    architecture: str,
) -> None:
    config = read_config({"architectures": [architecture], **SIZES})
    for projection in config.projections():
        if projection.shard is Shard.ROW:
            assert projection.width == config.spec.hidden_size
        else:
            assert projection.in_features == config.spec.hidden_size


def test_fewer_layers_keep_their_windows() -> None:
    config = read_config({"architectures": ["Gemma2ForCausalLM"], **SIZES, "sliding_window": 8})
    few = config.with_layers([1, 2])
    assert few.spec.windows == (None, 8)
    assert few.spec == dataclasses.replace(config.spec, num_layers=2, windows=(None, 8))
    assert len(few.projections()) == 8


class Noted:
    """A product that notes the step of each call."""

    plain = None
    lookup = None

    def __init__(self, linear: Linear, projection: Projection, calls: list[Any]) -> None:
        self._linear = linear
        self._projection = projection
        self._calls = calls

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        self._calls.append((self._projection, step))
        return self._linear(x, step)


class NotedProducts(Unquantised):
    calls: ClassVar[list[Any]] = []

    def load(self, projection: Projection, source: WeightSource, placement: Placement) -> Linear:
        return Noted(super().load(projection, source, placement), projection, self.calls)


class OwnValues:
    """In place of attention: every query head gives its key head's value."""

    num_live = None
    adapter_tiles = None
    rows = None
    repeats = None
    positions = torch.zeros(0, dtype=torch.int64)
    adapters = ()

    def attend(self, heads: torch.Tensor, cache: torch.Tensor, spec: AttentionSpec) -> torch.Tensor:
        values = heads[:, spec.num_heads + spec.num_kv_heads :]
        return values.repeat_interleave(spec.num_heads // spec.num_kv_heads, 1).flatten(1)


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_tensors_that_change_nothing_are_ignored_and_others_are_not(architecture: str) -> None:
    config = read_config({"architectures": [architecture], **SIZES})
    assert config.ignores("model.layers.0.self_attn.rotary_emb.inv_freq")
    assert not config.ignores("model.layers.9.other.weight")


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_the_step_reaches_every_product_of_its_rows(architecture: str) -> None:
    """Experts get rows of their own choice, which are no step's."""
    config = read_config({"architectures": [architecture], **SIZES})
    placement = Placement(torch.float32, torch.device("cpu"))
    weights = DummyWeights(dtype=placement.dtype, device=placement.device, seed=0)
    scheme = NotedProducts()
    scheme.calls.clear()
    model = build_model(config, weights, scheme=scheme, kernels=reference, placement=placement)
    step = OwnValues()
    model.forward(torch.tensor([3, 4, 5]), [torch.empty(0)] * config.spec.num_layers, step)
    shared = [
        (projection, given)
        for projection, given in scheme.calls
        if ".experts." not in projection.names[0]
    ]
    assert [projection for projection, _ in shared] == [
        one for one in config.projections() if ".experts." not in one.names[0]
    ]
    assert all(given is step for _, given in shared)


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_hidden_states_are_those_of_a_model_of_fewer_layers(architecture: str) -> None:
    """What goes into a layer is what the layers before it leave, in any family; watching changes nothing.
    Granite's stream is kept divided by its factor."""
    is_scaled = architecture == "GraniteForCausalLM"
    factor = {"residual_multiplier": 0.25} if is_scaled else {}
    config = read_config({"architectures": [architecture], **SIZES, **factor})
    placement = Placement(torch.float32, torch.device("cpu"))
    weights = DummyWeights(dtype=placement.dtype, device=placement.device, seed=0)

    def run(few: ModelConfig, watched: Sequence[int] = ()) -> tuple[torch.Tensor, Any]:
        model = build_model(
            few, weights, scheme=Unquantised(), kernels=reference, placement=placement
        )
        assert isinstance(model, DecoderStack)
        states = model.watch(watched)
        caches = [torch.empty(0)] * few.spec.num_layers
        return model.forward(torch.tensor([3, 4, 5]), caches, OwnValues()), states

    plain, _ = run(config)
    stream, states = run(config, (2, 0))
    assert torch.equal(stream, plain)
    expected = [run(config.with_layers(range(count)))[0] for count in (2, 0)]
    scale = 0.25 if is_scaled else 1.0
    torch.testing.assert_close(states.take(3), scale * torch.cat(expected, -1))
