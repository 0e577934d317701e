"""The page of the Python API names all that is public, with the defaults that hold."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec
import pytest

from octavo.beam_search import BeamSearchParams
from octavo.llm import LLM
from octavo.outputs import (
    CompletionOutput,
    EmbeddingOutput,
    RequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
)
from octavo.sampling_params import SamplingParams

PAGE = (Path(__file__).parents[2] / "docs/reference/python.md").read_text(encoding="utf-8")
OUTPUTS = (
    RequestOutput,
    CompletionOutput,
    EmbeddingOutput,
    ScoringRequestOutput,
    ScoringOutput,
)
METHODS = [name for name in vars(LLM) if not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_described(name: str) -> None:
    assert re.search(rf"^\| .*`{name}[`(]", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    "name", [field.name for kind in OUTPUTS for field in dataclasses.fields(kind)]
)
def test_what_comes_back_is_named(name: str) -> None:
    assert re.search(rf"`(\w+\.)?{name}`", PAGE)


@pytest.mark.parametrize("kind", [SamplingParams, BeamSearchParams])
def test_the_table_of_parameters_is_the_class(kind: type) -> None:
    section = PAGE.partition(f"## {kind.__name__}")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE)
    described: dict[str, str] = {}
    for names, defaults in rows:
        fields = re.findall(r"`(\w+)`", names)
        values = defaults.split(", ")
        described |= dict(zip(fields, values * (len(fields) // len(values)), strict=True))
    made = kind()
    actual = msgspec.structs.asdict(made) if kind is SamplingParams else dataclasses.asdict(made)
    assert described == {name: str(value) for name, value in actual.items()}
