"""Matrix of families by the forms that their weights can have, each served and held against transformers.

A family is in it by being registered. `table` is what docs/reference/quantised-weights.md shows of it, and
what is in no cell of that table is not promised.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from octavo.config import ModelImplementation, Quantization
from octavo.kernels.reference.weight_only import QUANTIZE, Code
from octavo.models.from_transformers import TransformersConfig
from octavo.models.registry import FAMILIES, read_model_config
from tests.support.runtime.generic_models import make_generic_checkpoint
from tests.support.runtime.quantised_checkpoints import (
    Store,
    Tensors,
    awq_tensors,
    float8_weight,
    gptq_tensors,
    is_product,
    packed_tensors,
    quantise_checkpoint,
    round_to_grid,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "quantised-weights.md"
BEGIN, END = "<!-- matrix: written by `make models` -->", "<!-- end of the matrix -->"
VOCAB = 112
GENERIC = ("olmo2", "starcoder2", "olmoe")
"""Families of transformers' own modules: plain ones, with biases, with experts."""
_GROUP = 32


def _types() -> dict[str, str]:
    """Of each own family's class, the first type of model that has it."""
    named = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
    types = {name: kind for kind, name in sorted(named, reverse=True) if isinstance(name, str)}
    return {name: types[name] for name in sorted(FAMILIES) if name in types}


NATIVE: dict[str, str] = _types()


@dataclass(frozen=True)
class Form:
    """Of weights.

    Args:
        store: Makes a stored weight of a plain one; None: the checkpoint stays as it is.
        config: `quantization_config`.
        rounding: What `--quantization` makes of it at load.
    """

    name: str
    dtype: str = "float32"
    store: Store | None = None
    config: dict[str, Any] | None = None
    rounding: Quantization | None = None


Stored = tuple[Tensors, torch.Tensor] | None


def _of_products(store: Callable[[torch.Tensor], tuple[Tensors, torch.Tensor]]) -> Store:
    def stored(module: str, weight: torch.Tensor) -> Stored:
        return store(weight) if is_product(module) else None

    return stored


def _awq(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    grid = round_to_grid(weight, 4, _GROUP)
    return awq_tensors(grid), grid.dequantize()


def _gptq(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    generator = torch.Generator().manual_seed(weight.shape[1])
    order = torch.randperm(weight.shape[1], generator=generator)
    grid = round_to_grid(weight, 4, _GROUP, order=order)
    return gptq_tensors(grid, 4, zero_offset=1), grid.dequantize()


def _packed(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    grid = round_to_grid(weight, 4, _GROUP)
    return packed_tensors(grid, 4, has_zeros=True), grid.dequantize()


def _float8(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    codes, scales, dequantised = float8_weight(weight, 32, 32)
    return {"weight": codes, "weight_scale_inv": scales}, dequantised


_ROUNDINGS = (Quantization.INT8, Quantization.INT4, Quantization.FP8)
_WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group"}
FORMS = (
    Form("fp32"),
    Form("bf16", dtype="bfloat16"),
    Form(
        "AWQ",
        store=_of_products(_awq),
        config={"quant_method": "awq", "bits": 4, "group_size": _GROUP},
    ),
    Form(
        "GPTQ",
        store=_of_products(_gptq),
        config={"quant_method": "gptq", "bits": 4, "group_size": _GROUP}
        | {"desc_act": True, "sym": False},
    ),
    Form(
        "compressed-tensors",
        store=_of_products(_packed),
        config={
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {
                "group_0": {"targets": ["Linear"], "weights": _WEIGHTS | {"group_size": _GROUP}}
            },
            "ignore": ["lm_head", "embed_out", r"re:.*\.gate$", r"re:.*router.*"],
        },
    ),
    Form(
        "FP8",
        store=_of_products(_float8),
        config={"quant_method": "fp8", "weight_block_size": [32, 32]},
    ),
    *(Form(f"`{one.value}`", rounding=one) for one in _ROUNDINGS),
)


PLAIN = FORMS[:2]


@dataclass(frozen=True)
class Cell:
    model_type: str
    form: Form
    implementation: ModelImplementation

    def __str__(self) -> str:
        return f"{self.model_type}-{self.form.name.strip('`')}"


def cells() -> Iterator[Cell]:
    for form, kind in itertools.product(FORMS, NATIVE.values()):
        yield Cell(kind, form, ModelImplementation.OCTAVO)
    for form, kind in itertools.product(FORMS, GENERIC):
        yield Cell(kind, form, ModelImplementation.AUTO)


def tried_here() -> list[Cell]:
    """Those that `test_drawn_models` does not try, which serves plain weights of own families."""
    return [cell for cell in cells() if cell.form not in PLAIN or cell.model_type in GENERIC]


def make_plain(folder: Path, model_type: str) -> Any:
    """A checkpoint whose sizes every form takes; returns transformers' model of it."""
    return make_generic_checkpoint(folder, model_type, vocab_size=VOCAB, tie_word_embeddings=False)


def make_cell(plain: Path, cell: Cell, target: Path) -> tuple[Path, Any]:
    """The checkpoint to serve, and transformers' model of the weights that it stands for, float32."""
    form = cell.form
    if form.store is None or form.config is None:
        return plain, _rounded(plain, cell)
    reference = quantise_checkpoint(plain, target, form.store, form.config)
    return target, _load(reference)


def _load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager"
    ).eval()


def _rounded(plain: Path, cell: Cell) -> Any:
    """As weights are once they are loaded: in bfloat16, or what a rounding leaves of them."""
    form, model = cell.form, _load(plain)
    with torch.no_grad():
        if form.dtype == "bfloat16":
            for parameter in model.parameters():
                parameter.copy_(parameter.bfloat16())
        if form.rounding is None:
            return model
        for name, parameter in _products(model, plain, cell):
            is_head = parameter is model.get_output_embeddings().weight
            code = Code.INT8 if is_head else Code(_CODES[form.rounding])
            rows = parameter.view(-1, parameter.shape[-1])
            assert rows.shape[1] % _GROUP == 0, name
            parameter.copy_(QUANTIZE[code](rows).dequantize().view(parameter.shape))
    return model


_CODES = {
    Quantization.INT4: Code.INT4,
    Quantization.INT8: Code.INT8,
    Quantization.FP8: Code.FLOAT8,
}


def _products(model: Any, plain: Path, cell: Cell) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Matrices that are rounded: of transformers' own modules, those that Octavo's products stand in for."""
    table = model.get_input_embeddings().weight
    if cell.implementation is ModelImplementation.OCTAVO:
        for name, parameter in model.named_parameters():
            is_router = name.endswith(("gate.weight", "router.weight"))
            if parameter.dim() > 1 and parameter is not table and not is_router:
                yield name, parameter
        return
    config = read_model_config(plain, cell.implementation)
    assert isinstance(config, TransformersConfig)
    names = [f"{name}.weight" for one in config.linear_projections() for name in one.names]
    names += [name for layer in config.experts for name in layer.parameters]
    if config.tables.head is not None and not config.keeps_tables:
        names.append(f"{config.tables.head.names[0]}.weight")
    for name in names:
        yield name, model.get_parameter(name)


def table() -> str:
    """Families by forms: all of `cells`."""
    heads = [form.name for form in FORMS]
    lines = [f"| family | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for name, kind in (*NATIVE.items(), *((kind, kind) for kind in GENERIC)):
        own = {cell.form.name for cell in cells() if cell.model_type == kind}
        label = f"`{name}`" if name in NATIVE else f"`{name}`, by transformers' modules"
        marks = ["yes" if form in own else "" for form in heads]
        lines.append(f"| {label} | {' | '.join(marks)} |")
    return "\n".join(lines)


def main() -> int:
    text = PAGE.read_text("utf-8")
    head, rest = text.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
