"""The table of models is that of the installed transformers, and a sample of it is judged anew."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from octavo.models.registry import ENCODERS, FAMILIES
from octavo.models.text_part import TEXT_PARTS
from tests.support.runtime.drawn_models import FAMILIES as FAMILIES_WITH_ADAPTERS
from tests.support.runtime.family_table import PAGE, judge
from tests.support.runtime.shared_kinds import families
from tests.support.runtime.support_matrix import marks, section

TEXT = PAGE.read_text("utf-8")
ROWS = re.findall(
    r"^\| `([^`]+)` \| `([^`]+)` \| ([a-z ]+) \| (?:yes|but [^|]+|) "
    r"\|(?: (?:yes|all heads|own|own on CPUs|) \|){3}(.*)\|$",
    TEXT,
    re.MULTILINE,
)
LEAST = 80
# Each way to be judged: own code, transformers', layers without a call, sinks, another's mask, positions.
SAMPLE = (
    "bart",
    "codegen",
    "ernie4_5_moe",
    "gpt_oss",
    "lfm2",
    "llama4_text",
    "mistral",
    "nemotron",
)


def test_every_causal_family_has_a_row() -> None:
    assert f"transformers {transformers.__version__}," in TEXT, "run `make models`"
    assert [row[0] for row in ROWS] == sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_own_families_are_native_and_nothing_else_is() -> None:
    native = {architecture for _, architecture, path, _ in ROWS if path == "native"}
    named = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    assert native == {*FAMILIES, *TEXT_PARTS} & {name for name in named if isinstance(name, str)}


def test_the_numbers_are_those_of_the_rows() -> None:
    counts = Counter(path for _, _, path, _ in ROWS)
    for path, count in counts.items():
        assert f"| {path} | {count} |" in TEXT
    assert counts["native"] + counts["generic"] >= LEAST


def test_what_is_refused_has_a_reason() -> None:
    assert all(
        bool(reason.strip()) == (path in ("refused", "not tried")) for *_, path, reason in ROWS
    )


@pytest.mark.parametrize("model_type", SAMPLE)
def test_a_row_is_what_comes_of_serving_such_a_model(model_type: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    row = judge(model_type, tmp_path / "model")
    assert f"{row}\n" in TEXT


def test_what_goes_with_what_is_what_a_start_takes() -> None:
    assert section() in TEXT, "run `make models`"


def test_each_mark_is_of_a_family_that_tests_run() -> None:
    every = list(marks())
    decoders = {one.architecture.lower() for one in every if one.speculative}
    assert decoders == families()
    drawn = {f"{family.replace('_', '')}forcausallm" for family in FAMILIES_WITH_ADAPTERS}
    assert {one.architecture.lower() for one in every if one.adapters} == drawn
    assert {one.architecture for one in every if one.ranks} == {*FAMILIES, *ENCODERS}
