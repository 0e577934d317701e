"""Quantised checkpoints of the demo model, calibrated: `python -m training.demo_model.quantise FOLDER`.

Written by llm-compressor (Apache-2.0, https://github.com/vllm-project/llm-compressor), whose files are what
people load, and AWQ by GPTQModel (Apache-2.0, https://github.com/ModelCloud/GPTQModel), with conversations
that the model was trained on; then each is examined through Octavo's own engine beside the model as it is.
Exits with 1 when one answers two points worse. Neither is among Octavo's dependencies: how LLM Compressor is
put beside them, docs/explanation/demo-model.md says; what `make oracles` installs has GPTQModel. Methods
whose program is missing are left out.
"""

import enum
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from training.demo_model.conversations import REFINEMENT, draw_sample
from training.demo_model.evaluate import SHIPPED_MODEL, sample_suites
from training.demo_model.samples import Conversation
from training.demo_model.suites import Case, Suite, build_suites

_SAMPLES = 256
_LONGEST_SAMPLE = 1024
_MOST_POINTS_LOST = 2.0


class Method(enum.Enum):
    """How weights are rounded: GPTQ and AWQ to 4 bits in groups of 128, or GPTQ of 32 with zeros."""

    GPTQ = "gptq"
    GPTQ_ASYMMETRIC = "gptq-asymmetric"
    INT8 = "int8"
    FP8 = "fp8"
    AWQ = "awq"

    @property
    def program(self) -> str:
        return "gptqmodel" if self is Method.AWQ else "llmcompressor"


def quantise(method: Method, folder: Path, seed: int) -> None:
    """Writes a checkpoint into `folder`."""
    if method is Method.AWQ:
        _quantise_by_gptqmodel(folder, seed)
    else:
        _quantise_by_llm_compressor(method, folder, seed)


def _quantise_by_gptqmodel(folder: Path, seed: int) -> None:
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # its loader asks for so many
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_MODEL)
    config = QuantizeConfig(method="awq", format="gemm", bits=4, group_size=128)
    model = GPTQModel.load(str(SHIPPED_MODEL), config, device="cpu")
    ids = [torch.tensor(one) for one in calibration_ids(tokenizer, seed)]
    samples = [{"input_ids": one, "attention_mask": torch.ones_like(one)} for one in ids]
    model.quantize(samples, batch_size=1)
    model.save(str(folder))
    tokenizer.save_pretrained(folder)


def _quantise_by_llm_compressor(method: Method, folder: Path, seed: int) -> None:
    """In the form of compressed-tensors."""
    from datasets import Dataset
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_MODEL)
    model = AutoModelForCausalLM.from_pretrained(SHIPPED_MODEL, dtype="auto")
    calibration: dict[str, Any] = {}
    if method is not Method.FP8:  # whose scales are of the weights alone
        ids = calibration_ids(tokenizer, seed)
        calibration = {
            "dataset": Dataset.from_dict({"input_ids": ids}),
            "num_calibration_samples": len(ids),
            "max_seq_length": _LONGEST_SAMPLE,
        }
    oneshot(model=model, recipe=_recipe(method), processor=tokenizer, **calibration)
    model.save_pretrained(folder, save_compressed=True)
    tokenizer.save_pretrained(folder)


def calibration_ids(tokenizer: Any, seed: int) -> list[list[int]]:
    texts = calibration_texts(tokenizer, seed)
    return [tokenizer.encode(text, add_special_tokens=False)[:_LONGEST_SAMPLE] for text in texts]


def calibration_texts(tokenizer: Any, seed: int) -> Iterator[str]:
    """Conversations and texts as the training ends with."""
    rng = Random(f"calibration:{seed}")
    for _ in range(_SAMPLES):
        sample = draw_sample(rng, REFINEMENT)
        if isinstance(sample, Conversation):
            yield str(
                tokenizer.apply_chat_template(
                    sample.messages, tools=sample.tools or None, tokenize=False
                )
            )
        else:
            yield sample.prompt + sample.rest


def _recipe(method: Method) -> Any:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier

    def groups(size: int, **options: Any) -> dict[str, Any]:
        weights = QuantizationArgs(
            num_bits=4, type="int", strategy="group", group_size=size, **options
        )
        return {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}

    kept = ["lm_head"]
    match method:
        case Method.GPTQ:
            return GPTQModifier(config_groups=groups(128), ignore=kept)
        case Method.GPTQ_ASYMMETRIC:
            scheme = groups(32, symmetric=False, actorder="weight")
            return GPTQModifier(config_groups=scheme, ignore=kept)
        case Method.INT8:
            return GPTQModifier(scheme="W8A16", ignore=kept)
        case Method.FP8:
            return QuantizationModifier(scheme="FP8_DYNAMIC", ignore=kept)


def share_of_right_answers(model: Path, suites: list[Suite]) -> float:
    """Of the suites that the model must pass, by Octavo's engine."""
    from octavo import LLM

    llm = LLM(str(model), kv_cache_memory="256Mi")
    cases = [case for suite in suites if suite.required for case in suite.cases]
    right = sum(given == case.expected for case, given in _answers(llm, cases))
    return right / len(cases)


def _answers(llm: Any, cases: list[Case]) -> Iterator[tuple[Case, str]]:
    """Greedy ones; the cases that offer the same tools are asked at once."""
    from octavo import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=160)
    by_tools: dict[str, list[Case]] = {}
    for case in cases:
        by_tools.setdefault(repr(case.tools), []).append(case)
    for same in by_tools.values():
        conversations = [case.messages for case in same]
        outputs = llm.chat(conversations, params, tools=same[0].tools or None)
        yield from zip(same, (output.outputs[0].text for output in outputs), strict=True)


def main(
    folder: Annotated[
        Path, typer.Argument(help="A checkpoint of each method is written below it.")
    ],
    method: Annotated[list[Method] | None, typer.Option(help="Default: all.")] = None,
    at_most: Annotated[int, typer.Option(min=1, help="Most cases of a suite.")] = 200,
    seed: Annotated[int, typer.Option(help="Decides what is drawn.")] = 0,
) -> None:
    """Make quantised checkpoints of the demo model and print what they answer."""
    console = Console(highlight=False)
    able = [one for one in method or Method if importlib.util.find_spec(one.program) is not None]
    for each in method or Method:
        if each not in able:
            console.print(f"{each.value}: not made: pip install {each.program}")
    if not able:
        raise typer.Exit(2)
    suites = sample_suites(build_suites(seed), at_most)
    plain = share_of_right_answers(SHIPPED_MODEL, suites)
    table = Table("checkpoint", "right", "points lost", title="demo model through Octavo's engine")
    table.add_row("as it is", f"{plain:.2%}", "")
    worst = 0.0
    for each in able:
        quantise(each, folder / each.value, seed)
        right = share_of_right_answers(folder / each.value, suites)
        lost = 100 * (plain - right)
        worst = max(worst, lost)
        table.add_row(each.value, f"{right:.2%}", f"{lost:+.2f}")
    console.print(table)
    sys.exit(int(worst >= _MOST_POINTS_LOST))


if __name__ == "__main__":
    typer.run(main)
