"""Public schemas give valid documents alone: `make schemas` runs this."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import referencing.exceptions
import torch

from octavo import LLM, SamplingParams
from octavo.errors import InvalidParameterError
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.requirements import Requirement, lacks
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.public_schemas import Schema, public_schemas, suite_folders
from tests.support.runtime.tokenizers_for_tests import byte_level_tokenizer, token_id

if not suite_folders():
    lacks(Requirement.JSON_SCHEMA_SUITE, "the JSON-Schema test suite was not fetched: make schemas")

TRIES = 4
MAX_TOKENS = 80
LEAST = 200
VOCAB = 320
OTHER_DIALECT = "ecmascript-regex"
PARAMETER = "response_format"


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    tokenizer = byte_level_tokenizer()
    make_checkpoint(folder, vocab_size=VOCAB, eos_token_id=token_id(tokenizer, "<eos>"))
    tokenizer.save(str(folder / "tokenizer.json"))
    return LLM(str(folder), max_model_len=MAX_TOKENS + 8, max_num_seqs=64, kv_cache_memory=2**23)


def params_of(schema: Schema, seed: int) -> SamplingParams:
    outputs = StructuredOutputsParams(json=schema, parameter=PARAMETER)
    return SamplingParams(structured_outputs=outputs, n=TRIES, max_tokens=MAX_TOKENS, seed=seed)


def taken_and_refused(llm: LLM) -> tuple[dict[str, Schema], dict[str, str]]:
    taken, refused = dict[str, Schema](), dict[str, str]()
    for name, schema in public_schemas().items():
        try:
            params = params_of(schema, 0)
            assert params.structured_outputs is not None
            assert llm._core is not None
            llm._core.grammars.prepare(params.structured_outputs, list(llm._end_token_ids))
        except InvalidParameterError as error:
            refused[name] = str(error)
        else:
            taken[name] = schema
    return taken, refused


def judgement(name: str, schema: Schema, text: str) -> tuple[str, str]:
    """Of a document: valid, invalid or not judged, and why."""
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    document: Any = json.loads(text)
    if OTHER_DIALECT in name:
        return "not judged", "Python's expressions are of another dialect"
    try:
        errors = list(kind(schema, format_checker=kind.FORMAT_CHECKER).iter_errors(document))
    # Expressions that Python does not read, schemas that nobody has, and numbers beyond a float.
    except (re.error, referencing.exceptions.Unresolvable, OverflowError) as error:
        return "not judged", str(error)
    return ("invalid", errors[0].message) if errors else ("valid", "")


def test_public_schemas_give_valid_documents_alone(llm: LLM) -> None:
    """Of a model that knows nothing, at temperature 1. What cannot be held to is refused, and says what."""
    taken, refused = taken_and_refused(llm)
    for name, told in refused.items():
        assert told.startswith(PARAMETER), name
        assert "library failed" not in told, name
    prompts = [[5 + number % 9, 6, 7] for number in range(len(taken))]
    params = [params_of(schema, number) for number, schema in enumerate(taken.values())]
    outputs = llm.generate(prompts, params)
    counts, invalid, answered = Counter[str](), list[str](), set[str]()
    for (name, schema), output in zip(taken.items(), outputs, strict=True):
        for answer in output.outputs:
            if answer.finish_reason != "stop":
                counts["cut"] += 1
                continue
            judged, why = judgement(name, schema, answer.text)
            counts[judged] += 1
            if judged == "valid":
                answered.add(name)
            elif judged == "invalid":
                invalid.append(f"{name}: {answer.text!r:.200}: {why:.200}")
    print(f"{len(taken)} schemas taken, {len(refused)} refused; {len(answered)} answered: {counts}")
    drafts = Counter(name.partition("/")[0] for name in answered if name.startswith("draft"))
    print(f"of the suite's drafts {dict(drafts)}")
    print(*invalid, sep="\n")
    assert invalid == []
    assert len(answered) >= LEAST
    assert len(drafts) > 2
