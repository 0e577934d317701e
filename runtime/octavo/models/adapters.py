"""Adapters of a model: puts what an adapter's files hold beside the products that they are of.

Each product that a family asks for is known by the names of the parameters that it was made of. An adapter
names the same: of a parameter that is a part of a product (queries beside keys) it changes that part, in the
product's own order of heads, and on a rank that has a share of it, that share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.errors import InvalidConfigurationError, ModelInvalidError, ModelUnsupportedError
from octavo.layers.adapter import AdaptedLinear, AdapterProduct
from octavo.layers.linear import Linear, PlainWeight
from octavo.layers.projection import Projection
from octavo.layers.stored_weight import picked, rows_of_each
from octavo.loading import Placement
from octavo.loading.adapter import Adapter, LowRank
from octavo.quantization.unquantised import fastest

# A rank is padded with zeros to whole vectors, so that kernels take it.
_RANK_STEP = 16
# Of more ranks a second copy of the weight, packed for few rows, is not worth its memory.
_MOST_PACKED_RANKS = 64
# Norms square what products give, and sum the squares in float32: a weight of this size leaves 2^32 to the
# activations and the width. Trained ones are below a hundred.
_MOST_WEIGHT = 2.0**48


@dataclass(frozen=True, slots=True)
class _Target:
    """A product that adapters may change.

    Args:
        own: What of it this rank has.
    """

    linear: AdaptedLinear
    own: Projection


class ModelAdapters:
    """The adapters that a model has beside its weights.

    Args:
        prefix: What names of modules begin with; an adapter of a model without its head leaves it out.
        max_rank: Of an adapter's matrices.
    """

    def __init__(self, placement: Placement, prefix: str, max_rank: int) -> None:
        self._placement = placement
        self._prefix = prefix
        self._max_rank = max_rank
        self._targets: dict[str, _Target] = {}

    def adapted(self, linear: Linear, own: Projection) -> Linear:
        """The product of `own`, which adapters may change from now on."""
        target = _Target(AdaptedLinear(linear), own)
        self._targets.update(dict.fromkeys(own.names, target))
        return target.linear

    def add(self, adapter_id: int, adapter: Adapter) -> None:
        """Between two steps. Raises `ModelInvalidError`, `ModelUnsupportedError` or
        `InvalidConfigurationError`, and nothing has changed then."""
        by_target: dict[int, tuple[_Target, dict[str, LowRank]]] = {}
        for module, matrices in adapter.modules.items():
            name, target = self._target(adapter, module)
            self._check(adapter, module, name, matrices, target.own)
            by_target.setdefault(id(target), (target, {}))[1][name] = matrices
        products = [
            (target.linear, self._product(target.own, own)) for target, own in by_target.values()
        ]
        for linear, product in products:
            linear.products[adapter_id] = product

    def remove(self, adapter_id: int) -> None:
        """Between two steps; unknown ones are ignored."""
        for target in self._targets.values():
            target.linear.products.pop(adapter_id, None)

    def _target(self, adapter: Adapter, module: str) -> tuple[str, _Target]:
        for name in (module, f"{self._prefix}{module}"):
            if name in self._targets:
                return name, self._targets[name]
        ends = sorted({name.rpartition(".")[2] for name in self._targets})
        raise ModelUnsupportedError(
            f"{adapter.file}: {module}.lora_A.weight is of a module that adapters do not change here, or "
            f"that the base model does not have. They change {', '.join(ends)}: train an adapter of those "
            "(target_modules), or merge it into its base model and serve that."
        )

    def _check(
        self, adapter: Adapter, module: str, name: str, matrices: LowRank, own: Projection
    ) -> None:
        if matrices.rank > self._max_rank:
            raise InvalidConfigurationError(
                f"{adapter.file}: {module}.lora_A.weight has the rank {matrices.rank}; at most "
                f"{self._max_rank} is allowed (--max-lora-rank)."
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
        limit = min(_MOST_WEIGHT, torch.finfo(self._placement.dtype).max)
        downs = matrices.down.abs().amax(dim=1).double()
        ups = matrices.up.abs().amax(dim=0).double() * abs(matrices.scale)
        for key, size in (
            ("lora_A.weight", downs.max().item()),
            ("lora_B.weight times its scale (lora_alpha)", ups.max().item()),
            ("lora_B.weight times lora_A.weight and its scale", (downs * ups).max().item()),
        ):
            if not size <= limit:
                dtype = str(self._placement.dtype).removeprefix("torch.")
                raise ModelInvalidError(
                    f"{adapter.file}: {module}.{key} reaches {size:.3g}, which overflows in {dtype}; at most "
                    f"{limit:.3g} is taken. Save the adapter again, and see lora_alpha and alpha_pattern of "
                    "adapter_config.json."
                )

    def _product(self, own: Projection, matrices: dict[str, LowRank]) -> AdapterProduct:
        put = self._placement.put
        columns = None if own.cut is None else own.cut.inputs
        downs: list[torch.Tensor] = []
        ups: list[tuple[slice, torch.Tensor]] = []  # each and the outputs that it is of
        first = 0
        for name, _, rows in rows_of_each(own):
            width = own.stored_widths[name]
            if (low := matrices.get(name)) is not None:
                down, up = low.down, low.up.float() * low.scale
                if columns is not None:
                    down = down[:, columns.start : columns.stop]
                up = up if rows is None else picked(up, rows)
                missing = -low.rank % _RANK_STEP
                downs.append(put(torch.nn.functional.pad(down, (0, 0, 0, missing))))
                padded = put(torch.nn.functional.pad(up, (0, missing)))
                ups.append((slice(first, first + width), padded))
            first += width
        whole_down = torch.cat(downs).contiguous()
        ranks = whole_down.shape[0]
        whole_up = self._placement.empty(own.width, ranks).zero_()
        first_rank = 0
        for outputs, up in ups:
            whole_up[outputs, first_rank : first_rank + up.shape[1]] = up
            first_rank += up.shape[1]
        packed = fastest(PlainWeight(whole_up, None)) if ranks <= _MOST_PACKED_RANKS else None
        return AdapterProduct(fastest(PlainWeight(whole_down, None)), whole_up, packed)
