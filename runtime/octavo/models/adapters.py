"""Adapters of a model: puts what an adapter's files hold beside the products that they are of.

Each product that a family asks for is known by the names of the parameters that it was made of. An adapter
names the same: of a parameter that is a part of a product (queries beside keys) it changes that part, in the
product's own order of heads, and on a rank that has a share of it, that share.

Where the matrices lie, and how they are multiplied, is the device's: `HostAdapters`, `SeatedAdapters`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from octavo.errors import InvalidConfigurationError, ModelInvalidError, ModelUnsupportedError
from octavo.kernels.adapter_seats import padded_rank
from octavo.layers.linear import Linear
from octavo.layers.projection import Projection
from octavo.layers.stored_weight import picked, rows_of_each
from octavo.loading import Placement
from octavo.loading.adapter import Adapter, LowRank

# Norms square what products give, and sum the squares in float32: a weight of this size leaves 2^32 to the
# activations and the width. Trained ones are below a hundred.
_MOST_WEIGHT = 2.0**48


@dataclass(frozen=True, slots=True)
class Target:
    """A product that adapters may change.

    Args:
        place: Among those of the model.
        own: What of it this rank has.
    """

    place: int
    own: Projection


@dataclass(frozen=True, slots=True)
class Part:
    """Of one parameter of a product, this rank's share of what an adapter adds: `x @ down.T @ up.T`.

    Args:
        number: Among the product's parameters.
        outputs: Of the product.
        down: `[rank, in_features]`, as it is stored.
        up: `[outputs, rank]` float32, scaled.

    A rank is padded with zeros to whole vectors, so that kernels take it.
    """

    number: int
    outputs: slice
    down: torch.Tensor
    up: torch.Tensor


Change = tuple[Target, dict[str, LowRank]]
"""A product, and an adapter's matrices by the names of its parameters; those without any stay."""


def parts_of(change: Change) -> Iterator[Part]:
    target, matrices = change
    own = target.own
    columns = None if own.cut is None else own.cut.inputs
    first = 0
    for number, (name, _, rows) in enumerate(rows_of_each(own)):
        outputs = slice(first, first + own.stored_widths[name])
        first = outputs.stop
        low = matrices.get(name)
        if low is None:
            continue
        down, up = low.down, low.up.float() * low.scale
        if columns is not None:
            down = down[:, columns.start : columns.stop]
        up = up if rows is None else picked(up, rows)
        missing = padded_rank(low.rank) - low.rank
        down = torch.nn.functional.pad(down, (0, 0, 0, missing))
        yield Part(number, outputs, down, torch.nn.functional.pad(up, (0, missing)))


class ModelAdapters(ABC):
    """The adapters that a model has beside its weights.

    Args:
        placement: Of the matrices, where products read them.
        prefix: What names of modules begin with; an adapter of a model without its head leaves it out.
        max_rank: Of an adapter's matrices.
    """

    def __init__(self, placement: Placement, prefix: str, max_rank: int) -> None:
        self.placement = placement
        self.max_rank = max_rank
        self._prefix = prefix
        self._targets: dict[str, Target] = {}
        self._left: dict[str, str] = {}
        self._num_targets = 0

    def adapted(self, linear: Linear, own: Projection) -> Linear:
        """The product of `own`, which adapters may change from now on."""
        target = Target(self._num_targets, own)
        self._num_targets += 1
        self._targets.update(dict.fromkeys(own.names, target))
        return self.changing(linear, target)

    @property
    def modules(self) -> frozenset[str]:
        """Names of those that adapters may change."""
        return frozenset(self._targets)

    def leave_alone(self, module: str, what: str) -> None:
        """Adapters of it are refused from now on, by `what` it is."""
        self._targets.pop(module, None)
        self._left[module] = what

    @abstractmethod
    def changing(self, linear: Linear, target: Target) -> Linear:
        """As `adapted`; products come in the order of their places."""

    def finish(self) -> None:  # noqa: B027 (not every device has something to do)
        """All products are known. Raises `OutOfMemoryError` where adapters have no room beside them."""

    def add(self, adapter_id: int, adapter: Adapter) -> None:
        """Between two steps. Raises `ModelInvalidError`, `ModelUnsupportedError` or
        `InvalidConfigurationError`, and nothing has changed then."""
        changes: dict[int, Change] = {}
        for module, matrices in adapter.modules.items():
            name, target = self._target(adapter, module)
            self._check(adapter, module, name, matrices, target.own)
            changes.setdefault(target.place, (target, {}))[1][name] = matrices
        self.take(adapter_id, list(changes.values()))

    @abstractmethod
    def take(self, adapter_id: int, changes: Sequence[Change]) -> None:
        """Matrices that were checked."""

    @abstractmethod
    def remove(self, adapter_id: int) -> None:
        """Between two steps; unknown ones are ignored."""

    def _target(self, adapter: Adapter, module: str) -> tuple[str, Target]:
        what = "a module that adapters do not change here, or that the base model does not have"
        for name in (module, f"{self._prefix}{module}"):
            if name in self._targets:
                return name, self._targets[name]
            if name in self._left:
                what = f"{self._left[name]}, which adapters do not change here"
        ends = sorted({name.rpartition(".")[2] for name in self._targets})
        raise ModelUnsupportedError(
            f"{adapter.file}: {module}.lora_A.weight is of {what}. They change {', '.join(ends)}: train an "
            "adapter of those (target_modules), or merge it into its base model and serve that."
        )

    def _check(
        self, adapter: Adapter, module: str, name: str, matrices: LowRank, own: Projection
    ) -> None:
        if matrices.rank > self.max_rank:
            raise InvalidConfigurationError(
                f"{adapter.file}: {module}.lora_A.weight has the rank {matrices.rank}; at most "
                f"{self.max_rank} is allowed (--max-lora-rank)."
            )
        width, depth = own.stored.stored_widths[name], own.stored.in_features
        for which, found, wanted in (
            ("A", list(matrices.down.shape), [matrices.rank, depth]),
            ("B", list(matrices.up.shape), [width, matrices.rank]),
        ):
            if found != wanted:
                raise ModelInvalidError(
                    f"{adapter.file}: {module}.lora_{which}.weight has shape {found} where the base model "
                    f"wants {wanted}: the adapter is of another one."
                )
        self._check_size(adapter, module, matrices)

    def _check_size(self, adapter: Adapter, module: str, matrices: LowRank) -> None:
        """What overflows would answer with tokens that mean nothing."""
        limit = min(_MOST_WEIGHT, torch.finfo(self.placement.dtype).max)
        downs = matrices.down.abs().amax(dim=1).double()
        ups = matrices.up.abs().amax(dim=0).double() * abs(matrices.scale)
        for key, size in (
            ("lora_A.weight", downs.max().item()),
            ("lora_B.weight times its scale (lora_alpha)", ups.max().item()),
            ("lora_B.weight times lora_A.weight and its scale", (downs * ups).max().item()),
        ):
            if not size <= limit:
                dtype = str(self.placement.dtype).removeprefix("torch.")
                raise ModelInvalidError(
                    f"{adapter.file}: {module}.{key} reaches {size:.3g}, which overflows in {dtype}; at most "
                    f"{limit:.3g} is taken. Save the adapter again, and see lora_alpha and alpha_pattern of "
                    "adapter_config.json."
                )
