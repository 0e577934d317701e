"""Weights of transformers' modules: Octavo reads the files, transformers maps names and shapes.

Checkpoints keep other names than modules, and experts one by one; `from_pretrained` turns them into what the
module holds. It gets tensors that are read as it asks for them, and what it reports is noted with the source.

Products that a checkpoint stores under their modules' names are none of its business: they are loaded as
those of Octavo's own families are, by the scheme, and never exist as parameters.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from transformers.utils import logging as transformers_logging

from octavo.errors import ModelUnsupportedError
from octavo.layers.linear import Linear
from octavo.layers.moe import ChosenExperts
from octavo.layers.projection import Projection, Shard, share_of
from octavo.layers.ranks import Ranks
from octavo.loading import WeightSource, floating_tensors
from octavo.loading.renamed import RenamedModules
from octavo.loading.transposed import TransposedModules
from octavo.models.base import Tables
from octavo.models.building import ModelBuilder
from octavo.models.experts import chosen_experts
from octavo.models.from_transformers.expert_weights import (
    ExpertsPlaces,
    ExpertsSource,
    find_places,
)
from octavo.models.from_transformers.experts import OWN, forget_parameters
from octavo.models.from_transformers.heads import NormOfHeads
from octavo.models.from_transformers.interface import PAGED, Running
from octavo.models.from_transformers.rotary import hold_frequencies
from octavo.models.from_transformers.stand_ins import (
    GatheredProduct,
    LookupModule,
    PlacedExperts,
    ProductModule,
    SharedProduct,
    SummedProduct,
)
from octavo.models.from_transformers.tensor_parallel import SharingPlan, Style

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from octavo.models.from_transformers.config import TransformersConfig

logger = logging.getLogger(__name__)
# It changes what holds for the whole process, such as torch's default dtype.
_LOADING = threading.Lock()
_StandIn = TypeVar("_StandIn", bound=torch.nn.Module)


class StoredTensor:
    """One that is read when it is indexed, as a slice of an open file is.

    transformers asks from several threads, and the source keeps a list of what was asked for.
    """

    def __init__(
        self, source: WeightSource, name: str, shape: tuple[int, ...], lock: threading.Lock
    ) -> None:
        self._source = source
        self._name = name
        self._shape = shape
        self._lock = lock

    def __getitem__(self, index: Any) -> torch.Tensor:
        with self._lock:
            (tensor,) = floating_tensors(self._source, {self._name: self._shape})
        return tensor[index]


def load_module(
    config: TransformersConfig, load: ModelBuilder, running: Running
) -> tuple[PreTrainedModel, dict[str, ChosenExperts]]:
    """transformers' modules, with Octavo's products in the places of linear ones, and the experts that are
    Octavo's, by the paths of their modules. What does not match is noted with the source.

    Args:
        running: The step that the modules are in.
    """
    source, placement, view = load.source, load.placement, load.dequantised
    config, places = _with_stored_experts(config, view, load.ranks.size)
    outline = config.outline
    _tell_experts(config, placement.dtype)
    own = _OwnProducts.of(config, source, load.ranks.size)
    shapes = {name: view.shape(name) for name in view.names()} or outline.parameters
    lock = threading.Lock()
    stored = {
        name: StoredTensor(view, name, shape, lock)
        for name, shape in shapes.items()
        if shape is not None and not own.hold(name) and name not in places.tensors
    }
    with _quiet(), _LOADING:
        try:
            module, report = own.within(config).from_pretrained(
                None,
                config=deepcopy(config.given),
                state_dict=stored,
                dtype=placement.dtype,
                attn_implementation=PAGED,
                **({"experts_implementation": OWN} if config.experts else {}),
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except RuntimeError as error:  # its way to tell of tensors that it could not convert
            source.note(" ".join(str(error).split()))
            if outline.experts_problem is not None:
                source.note(outline.experts_problem)
            source.finish(lambda _: True)
            raise
    for name in sorted(report["missing_keys"]):
        source.note(f"{name} is missing")
    for name, found, wanted in sorted(report["mismatched_keys"]):
        source.note(f"{name} has shape {list(found)} where config.json says {list(wanted)}")
    hold_frequencies(module)
    module = module.eval().to(placement.device)
    own.fill(module, load, running)
    if load.ranks.size > 1:
        _cut_heads(config, module, load.ranks)
    return module, _load_experts(config, load, module, ExpertsSource(source, view, places))


def _cut_heads(config: TransformersConfig, model: PreTrainedModel, ranks: Ranks) -> None:
    """Leaves a rank what it has of the heads, or tells why that is all of them."""
    why = config.sharing.whole_heads
    if why is not None:
        logger.info(
            "Attention of all heads runs on each of %d ranks, with a whole KV cache: %s.",
            ranks.size,
            why,
        )
        return
    heads = config.outline.heads
    for norm in heads.norms:
        whole = model.get_parameter(f"{norm.path}.weight")
        model.set_submodule(norm.path, NormOfHeads(norm, whole, ranks))
    for name in heads.sinks:
        path, _, own = name.rpartition(".")
        whole = model.get_parameter(name)
        place = share_of(len(whole), ranks.rank, ranks.size)
        part = whole[place.start : place.stop].detach().clone()
        setattr(model.get_submodule(path), own, torch.nn.Parameter(part, requires_grad=False))


def _with_stored_experts(
    config: TransformersConfig, view: WeightSource, num_ranks: int
) -> tuple[TransformersConfig, ExpertsPlaces]:
    """Where the experts' weights lie; in other ways than Octavo reads, they are transformers' affair."""
    places = find_places(config.experts, view, config.outline.conversions)
    if not isinstance(places, str):
        return config, places
    if num_ranks > 1 and config.sharing.cuts_experts:
        raise ModelUnsupportedError(
            f"{places} of {config.spec.architecture} is stored in another way than experts one by one or all "
            "in one, which ranks cannot share. Use --tensor-parallel-size 1."
        )
    why = f"{places} is stored in another way than experts one by one or all in one"
    return config.with_own_experts_alone(why), ExpertsPlaces()


def _tell_experts(config: TransformersConfig, dtype: torch.dtype) -> None:
    if config.experts:
        logger.info("Experts of %d layers run by Octavo's products.", len(config.experts))
    elif config.outline.experts_problem is not None:
        logger.info(
            "Experts run by transformers' own implementation, in %s: %s.",
            str(dtype).removeprefix("torch."),
            config.outline.experts_problem,
        )


def _load_experts(
    config: TransformersConfig, load: ModelBuilder, model: PreTrainedModel, source: WeightSource
) -> dict[str, ChosenExperts]:
    found: dict[str, ChosenExperts] = {}
    reduce = load.reduce if config.sharing.cuts_experts else None
    for layer in config.experts:
        module: Any = model.get_submodule(layer.path)
        own = chosen_experts(
            load,
            layer.path,
            config.experts_of(layer),
            source,
            known=layer.gate,
            gate=module._apply_gate,  # noqa: SLF001 (the interface's own name)
        )
        found[layer.path] = PlacedExperts(own, load.placement.dtype, reduce)
    return found


@dataclass(frozen=True, slots=True)
class _OwnProducts:
    """What Octavo reads and multiplies itself: products that the checkpoint holds under the modules' names.

    Args:
        tables: None: transformers has embedding and head.
        sharing: How ranks cut the products.
        adaptable: Paths of modules that adapters may change.
        stored: What the checkpoint calls modules that it has by other names.
        transposed: Paths of modules whose weights it has `[inputs, outputs]`.
    """

    products: tuple[Projection, ...]
    tables: Tables | None
    sharing: SharingPlan
    adaptable: frozenset[str]
    stored: Mapping[str, str]
    transposed: frozenset[str]

    @classmethod
    def of(cls, config: TransformersConfig, source: WeightSource, num_ranks: int) -> _OwnProducts:
        modules = {name.rpartition(".")[0] for name in source.names()}

        def are_there(names: Iterable[str]) -> bool:
            return not modules or modules.issuperset(names)

        tables = None if config.keeps_tables else config.tables
        if tables is not None and not are_there(_table_names(tables)):
            tables = None
        every, stored = config.linear_projections(), dict[str, str]()
        if not all(are_there(one.names) for one in every):
            stored = config.outline.conversions.renamed_modules(source.names())
            modules |= stored.keys()
        products = tuple(one for one in every if are_there(one.names))
        missing = [one for one in every if one not in products and one.shard is not Shard.WHOLE]
        if missing and num_ranks > 1:
            raise ModelUnsupportedError(
                f"{' and '.join(missing[0].names)} of {config.spec.architecture} is stored in parts, "
                "or in another way than transformers' modules have it, which ranks cannot share. Use "
                "--tensor-parallel-size 1."
            )
        if len(products) < len(every):
            logger.warning(
                "%d of %d products are stored in parts, or in other ways than transformers' modules have "
                "them: their weights are held as they are, dequantised, in %s.",
                len(every) - len(products),
                len(every),
                config.spec.stored_dtype,
            )
        adaptable = frozenset(name for one in config.adaptable_projections() for name in one.names)
        lying = config.outline.transposed
        return cls(products, tables, config.sharing, adaptable, stored, lying)

    def hold(self, name: str) -> bool:
        """Whether a parameter is of one of them."""
        return name.rpartition(".")[0] in self._modules()

    def within(self, config: TransformersConfig) -> type[PreTrainedModel]:
        """The config's class, whose models have stand-ins, and no parameters, in their places."""
        model_class = config.model_class
        products, tables = self.products, self.tables

        def __init__(model: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807
            model_class.__init__(model, *arguments, **named)
            for product in products:
                for name, width in product.stored_widths.items():
                    model.set_submodule(name, ProductModule(product.in_features, width))
            for layer in config.experts:
                forget_parameters(model.get_submodule(layer.path), layer)
            if tables is not None:
                embedding, head = tables.embedding, tables.head
                table = LookupModule(embedding.width, embedding.in_features)
                model.set_submodule(embedding.names[0], table)
                if head is not None:
                    stand_in = ProductModule(head.in_features, head.width)
                    model.set_submodule(head.names[0], stand_in)
                model.all_tied_weights_keys = {}

        own = {"__init__": __init__, "__module__": model_class.__module__}
        if tables is not None:
            own["tie_weights"] = lambda *_, **__: None
        return type(model_class.__name__, (model_class,), own)

    def fill(self, model: PreTrainedModel, load: ModelBuilder, running: Running) -> None:
        """Gives the stand-ins their products."""
        dtype = load.placement.dtype
        for product in self.products:
            shared = self._shared(product, load, running)
            for index, name in enumerate(product.names):
                _stand_in(model, name, ProductModule).bind(shared, index, dtype)
        if self.tables is None:
            return
        lookup, head = load.tables(self.tables)
        _stand_in(model, self.tables.embedding.names[0], LookupModule).bind(lookup)
        if head is not None and self.tables.head is not None:
            shared = SharedProduct(head, [self.tables.head.width])
            _stand_in(model, self.tables.head.names[0], ProductModule).bind(shared, 0, dtype)

    def _shared(self, product: Projection, load: ModelBuilder, running: Running) -> SharedProduct:
        source: WeightSource | None = None
        if self.stored:
            source = RenamedModules(load.source, self.stored)
        if not self.transposed.isdisjoint(product.names):
            source = TransposedModules(source or load.source, product.names)
        is_adaptable = self.adaptable.issuperset(product.names)
        linear = load.linear(product, source, is_adaptable=is_adaptable)
        takes_adapters = is_adaptable and load.adapters is not None
        linear, widths = self._of_ranks(linear, product, load)
        return SharedProduct(linear, widths, running if takes_adapters else None)

    def _of_ranks(
        self, linear: Linear, product: Projection, load: ModelBuilder
    ) -> tuple[Linear, Sequence[int]]:
        """With what makes the outputs of ranks what the modules expect, and how many these are."""
        own, reduce, style = load.share(product), load.reduce, self.sharing.style_of(product.names)
        if reduce is None or own.cut is None:
            return linear, product.out_features
        if own.cut.outputs is None:
            inputs = own.cut.inputs if style is Style.SPLIT_ROW else None
            return SummedProduct(linear, reduce, inputs), product.out_features
        if style is Style.GATHERED_COLUMN:
            widths = product.out_features
            return GatheredProduct(linear, reduce, own.cut.outputs, widths), widths
        return linear, own.out_features

    def _modules(self) -> frozenset[str]:
        names = [name for product in self.products for name in product.names]
        stored = [self.stored[name] for name in names if name in self.stored]
        return frozenset((*names, *stored, *_table_names(self.tables)))


def _table_names(tables: Tables | None) -> list[str]:
    """Those of what is stored."""
    if tables is None:
        return []
    has_head = tables.head is not None and not tables.is_tied
    return [*tables.embedding.names, *(tables.head.names if has_head and tables.head else ())]


def _stand_in(model: PreTrainedModel, name: str, kind: type[_StandIn]) -> _StandIn:
    found = model.get_submodule(name)
    if not isinstance(found, kind):
        raise TypeError(f"{name} is a {type(found).__name__}, and no stand-in.")
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its bar and its tables: what they tell is an error of ours."""
    level = transformers_logging.get_verbosity()
    has_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if has_bar:
            transformers_logging.enable_progress_bar()
