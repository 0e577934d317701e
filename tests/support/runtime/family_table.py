"""Table of model families: which run, by whose code, and why the others do not; `make models` writes it.

Every causal family of the installed transformers gets a small model with random weights. It is served by the
whole engine, with prompt chunks, decodes and cached prefixes, then with adapters of several ranks in the same
batches, and compared with transformers token by token; two ranks then share it, with an adapter, too.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from octavo.config import ModelImplementation
from octavo.errors import OctavoError
from octavo.kernels.reference import device
from octavo.models.from_transformers import TransformersConfig
from octavo.models.registry import FAMILIES, read_model_config
from octavo.models.text_part import TEXT_PARTS
from tests.support.runtime.checkpoints import VOCAB
from tests.support.runtime.generic_adapters import (
    MAX_RANK,
    adaptable_modules,
    assert_as_merged,
    other_modules,
    save_adapters,
)
from tests.support.runtime.generic_models import UnmadeError, make_generic_checkpoint
from tests.support.runtime.rank_threads import scores
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor
from tests.support.runtime.support_matrix import section

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "models.md"
_MAX_REASON = 200
_BEGINNINGS = (
    re.compile(r"^config\.json: architecture \S+ would run by .* over the paged KV cache, and "),
    re.compile(r"^config\.json: "),
)
_ENDINGS = (". Serve another model.", ". Serve another model, or correct config.json.")
_HEAD = """# Models

Causal families of transformers {version}, by the `model_type` of their `config.json`: whose code computes
them, and why those that are refused are. Written by `make models`, which serves a small model of each, with
random weights, through the whole engine: prompts in chunks, decodes of several requests, cached prefixes.
Those that run give transformers' tokens, and its probabilities.

| path | families | |
|---|---|---|
| native | {native} | Octavo's own code, [in every form](quantised-weights.md#families-by-forms) of weights |
| generic | {generic} | transformers' own modules over the paged KV cache (`--model-impl auto`) |
| refused | {refused} | at the start, by name |
| not tried | {unmade} | no small model of it can be made by this page's rules |

{support}
## Families

A family is judged with layers of each kind that its default has. What a checkpoint's own config asks for
beyond that is judged at its start, by the same checks.

What the generic path costs on two CPU cores, its time over the native one's for the same model, of real
shapes and depths (`.venv/bin/python -m benchmarks.generic_path`; ranges are in `benchmarks/NOTES.md`):

| shape | | first token of 1,024 | token at 1 request | at 8 |
|---|---|---|---|---|
| Llama 3.2 1B | bf16 | 1.19 | 1.27 | 1.25 |
| | fp32 | 1.15 | 1.04 | 1.02 |
| Qwen3 0.6B | bf16 | 1.14 | 1.50 | 1.69 |
| | fp32 | 1.09 | 1.27 | 1.22 |

`LoRA`: [adapters](../how-to/lora.md) of the linear modules beside the head give the tokens of the model that
they are merged into, on ranks too; `but` names those that take none. Experts in one tensor, embeddings and
modules of other classes take none either. `ranks`: two processes share the model and give its tokens;
`all heads`: each computes attention of all heads and has a whole KV cache, since a part of attention is no
head's alone, or there is no plan of how ranks share the family. Weights of products, experts and vocabulary
are cut all the same. `experts` of transformers' modules: `own` are Octavo's products, on CPUs alone where a
GPU's expert kernels do not have the gate; where nothing stands there are none, or they are transformers' own.
`graphs`: by a trial without values, CUDA graphs hold its decodes on GPUs (not run on one); the others' are
launched piece by piece, and the start says why.

| model_type | architecture | path | LoRA | ranks | experts | graphs | why not |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Row:
    model_type: str
    architecture: str
    path: str
    reason: str = ""
    adapters: str = ""
    ranks: str = ""
    experts: str = ""
    is_recorded: bool = False

    def __str__(self) -> str:
        reason = self.reason.replace("|", "\\|").replace("<", "&lt;")
        graphs = "yes" if self.is_recorded else ""
        cells = (self.path, self.adapters, self.ranks, self.experts, graphs, reason)
        return f"| `{self.model_type}` | `{self.architecture}` | {' | '.join(cells)} |"


def judge(model_type: str, folder: Path) -> Row:
    """What comes of serving a small model of this type. Raises `AssertionError` if it answers otherwise than
    transformers.

    Args:
        folder: For the model; adapters lie beside it.
    """
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    architecture = name if isinstance(name, str) else name[0]
    try:
        model = make_generic_checkpoint(folder, model_type)
    except UnmadeError as error:
        return Row(model_type, architecture, "not tried", _shortened(str(error)))
    try:
        executor = make_executor(folder, model_impl=ModelImplementation.AUTO)
    except OctavoError as error:
        # A refusal is of the family; what names the folder is of weights that transformers wrote itself.
        if str(folder) in str(error):
            raise AssertionError(str(error)) from error
        return Row(model_type, architecture, "refused", _shortened(str(error)))
    assert_as_transformers(serve(folder, executor, VOCAB), model)
    adapters, one = of_adapters(folder, model)
    is_native = architecture in (*FAMILIES, *TEXT_PARTS)
    experts, is_recorded = ("", True) if is_native else of_modules(folder)
    return Row(
        model_type,
        architecture,
        "native" if is_native else "generic",
        adapters=adapters,
        ranks=ranks(folder, one),
        experts=experts,
        is_recorded=is_recorded,
    )


def of_adapters(folder: Path, model: Any) -> tuple[str, Path | None]:
    """Which linear modules they change, and the folder of one; nothing: none. Raises `AssertionError` if they
    change them otherwise than merged ones do."""
    names = adaptable_modules(folder, model)
    if not names:
        return "", None
    adapters, models = save_adapters(folder.parent, model, names)
    executor = make_executor(
        folder, model_impl=ModelImplementation.AUTO, enable_lora=True, max_lora_rank=MAX_RANK
    )
    assert_as_merged(folder, executor, VOCAB, adapters, models)
    others = ", ".join(f"`{name}`" for name in other_modules(model, names))
    return f"but {others}" if others else "yes", adapters[1]


def of_modules(folder: Path) -> tuple[str, bool]:
    """Whose products the experts of transformers' modules are, and whether a graph holds their decodes."""
    config = read_model_config(folder, ModelImplementation.AUTO)
    if not isinstance(config, TransformersConfig):  # its text is a family's of our own
        return "", True
    on_gpu = config.with_kernels(device)
    experts = "own" if on_gpu.experts else "own on CPUs" if config.experts else ""
    return experts, on_gpu.recording_problem is None


def ranks(folder: Path, adapter: Path | None) -> str:
    """How ranks share the model, if at all. Raises `AssertionError` if they score otherwise than one."""
    try:
        found = scores(folder, 2, adapter=adapter)
    except OctavoError:
        return ""
    ((expected, _),) = scores(folder, 1, adapter=adapter)
    torch.testing.assert_close(found[0][0], expected, rtol=1e-3, atol=1e-3)
    config = read_model_config(folder, ModelImplementation.AUTO)
    return "yes" if config.spec.shares_heads else "all heads"


def page(rows: list[Row]) -> str:
    counts = Counter(row.path for row in rows)
    head = _HEAD.format(
        version=transformers.__version__,
        native=counts["native"],
        generic=counts["generic"],
        refused=counts["refused"],
        unmade=counts["not tried"],
        support=section(),
    )
    return head + "".join(f"{row}\n" for row in rows)


def _shortened(reason: str) -> str:
    """One line: what a start says, without what it says of every one."""
    reason = " ".join(reason.split())
    for beginning in _BEGINNINGS:
        reason = beginning.sub("", reason)
    for ending in _ENDINGS:
        reason = reason.removesuffix(ending)
    return reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}…"


def main() -> int:
    torch.set_num_threads(1)
    rows, wrong = [], []
    for model_type in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        with tempfile.TemporaryDirectory() as work:
            try:
                rows.append(judge(model_type, Path(work) / "model"))
            except AssertionError as error:
                wrong.append(model_type)
                print(f"{model_type} answers otherwise: {error}", file=sys.stderr, flush=True)
            else:
                print(rows[-1], file=sys.stderr, flush=True)
    if wrong:
        print(f"WRONG: {', '.join(wrong)}", file=sys.stderr)
        return 1
    PAGE.write_text(page(rows), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
