"""Structured outputs through the whole engine, with a model that knows nothing, at temperature 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo import LLM, SamplingParams
from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.grammars.mask_batch import MaskBatch
from octavo.engine.messages import AddRequest
from octavo.errors import InvalidParameterError
from octavo.kernels.packed_step import Packer
from octavo.outputs import FinishReason
from octavo.sampling.device.sampler import DeviceSampler
from octavo.structured_outputs import MAX_BYTES, MAX_DEPTH, StructuredOutputsParams
from octavo.token_mask import WORTH_A_THREAD
from octavo.worker.cpu.executor import TorchExecutor
from octavo.worker.cpu.masks_ahead import MasksAhead
from octavo.worker.gpu.packed_runner import StepRows
from octavo.worker.gpu.runner import GpuRunner
from octavo.worker.gpu.step_outline import StepOutline
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import make_executor, run_to_end
from tests.support.runtime.tokenizers_for_tests import (
    byte_level_tokenizer,
    metaspace_tokenizer,
    token_id,
)

VOCAB = 320  # some more than the tokenizers have
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "dog"]}, "age": {"type": "integer", "maximum": 99}},
    "required": ["kind", "age"],
    "additionalProperties": False,
}
KINDS: dict[str, dict[str, Any]] = {
    "json": {"json": SCHEMA},
    "text": {"json": json.dumps(SCHEMA)},
    "regex": {"regex": "(ab|cd){2,4}"},
    "choice": {"choice": ["yes", "no", "naïve 你好"]},
    "grammar": {"grammar": 'start: "(" start ")" | "x"'},
}


def wanted(kind: str, **options: Any) -> SamplingParams:
    outputs = StructuredOutputsParams(**KINDS[kind])
    return SamplingParams(structured_outputs=outputs, max_tokens=120, **options)


def is_of_kind(kind: str, text: str) -> bool:
    if kind in ("json", "text"):
        jsonschema.validate(json.loads(text), SCHEMA)
        return True
    if kind == "choice":
        return text in KINDS["choice"]["choice"]
    if kind == "grammar":
        depth = text.count("(")
        return text == "(" * depth + "x" + ")" * depth
    return len(text) in (4, 6, 8) and set(text[::2]) | set(text[1::2]) <= set("abcd")


@pytest.fixture(scope="module", params=["byte-level", "metaspace"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    made = tmp_path_factory.mktemp("model")
    tokenizer = byte_level_tokenizer() if request.param == "byte-level" else metaspace_tokenizer()
    end = token_id(tokenizer, "<eos>" if request.param == "byte-level" else "</s>")
    make_checkpoint(made, vocab_size=VOCAB, eos_token_id=end)
    tokenizer.save(str(made / "tokenizer.json"))
    return made


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    return LLM(str(folder), max_model_len=160, kv_cache_memory=2**20)


@pytest.mark.parametrize("kind", KINDS)
def test_each_answer_is_what_was_asked_for(llm: LLM, kind: str) -> None:
    outputs = llm.generate([[5, 6, 7]] * 4, wanted(kind, n=2))
    answers = [answer for output in outputs for answer in output.outputs]
    ended = [answer.text for answer in answers if answer.finish_reason == "stop"]
    assert len(ended) > len(answers) // 2
    assert len(set(ended)) > 1
    assert all(is_of_kind(kind, text) for text in ended)


def test_a_grammar_changes_nothing_for_the_others(llm: LLM) -> None:
    plain = SamplingParams(seed=3, max_tokens=30, ignore_eos=True)
    alone = llm.generate([[5, 6, 7]], plain)[0].outputs[0].token_ids
    shaped = llm.generate([[5, 6, 7]], wanted("json", seed=4))[0].outputs[0].token_ids
    both = [plain, wanted("json", seed=4), wanted("regex"), plain]
    together = [output.outputs[0].token_ids for output in llm.generate([[5, 6, 7]] * 4, both)]
    assert together[0] == together[3] == alone
    assert together[1] == shaped


def test_a_stop_string_ends_a_document_early(llm: LLM) -> None:
    (output,) = llm.generate([[5, 6, 7]], wanted("json", seed=4, stop='"kind"'))
    assert output.outputs[0].text.strip() == "{"
    assert output.outputs[0].stop_reason == '"kind"'


def test_what_is_refused_leaves_the_engine_as_it_was(llm: LLM) -> None:
    wrong = SamplingParams(structured_outputs=StructuredOutputsParams(json={"not": {}}))
    with pytest.raises(InvalidParameterError, match="not"):
        llm.generate([[5], [6]], [wanted("regex"), wrong])
    assert llm.stats.num_running == llm.stats.num_waiting == llm.stats.kv_blocks_used == 0


def run(executor: Any, folder: Path, end: int) -> dict[str, list[int]]:
    """All kinds twice, beside requests that want none; some blocks short where the executor is tight."""
    config = EngineConfig(model=str(folder), max_num_seqs=8, max_num_batched_tokens=48)
    core = EngineCore(config, executor, is_debugging=True)
    for number in range(2):
        for kind in KINDS:
            params = wanted(kind, seed=number)
            core.add(AddRequest(f"{kind}{number}", [5] * 14, params, end_token_ids=(end,)))
        plain = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
        core.add(AddRequest(f"plain{number}", [7] * 14, plain))
    return run_to_end(core)


def test_host_and_device_and_preemptions_give_the_same_tokens(folder: Path) -> None:
    end = json.loads((folder / "config.json").read_text())["eos_token_id"]
    outputs = run(make_executor(folder), folder, end)
    ahead = make_executor(folder)
    assert isinstance(ahead, TorchExecutor)
    ahead._masks = MasksAhead(WORTH_A_THREAD, has_core=True)
    assert run(ahead, folder, end) == outputs
    assert ahead._masks._thread is not None
    assert run(make_gpu_executor(folder, max_num_seqs=8), folder, end) == outputs
    assert run(make_gpu_executor(folder, max_num_seqs=8, num_blocks=16), folder, end) == outputs
    assert sum(tokens[-1] == end for tokens in outputs.values()) > len(KINDS)


def spied(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, told: list[str]) -> None:
    real = getattr(owner, name)

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        told.append(name)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, spy)


def test_masks_are_worked_out_when_the_device_has_its_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what other ranks are told of a step holds none of them."""
    end = json.loads((folder / "config.json").read_text())["eos_token_id"]
    told: list[str] = []
    sizes: list[int] = []

    def capture(work: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            told.append("replay")
            work()

        return replay

    def run(self: GpuRunner, outline: StepOutline, packer: Packer) -> StepRows | None:
        sizes.append(packer.size)
        return real_run(self, outline, packer)

    executor = make_gpu_executor(folder, max_num_seqs=8, capture=capture)
    real_run = GpuRunner.run
    monkeypatch.setattr(GpuRunner, "run", run)
    spied(monkeypatch, GpuRunner, "sampled_logits", told)
    spied(monkeypatch, MaskBatch, "prepare", told)
    spied(monkeypatch, DeviceSampler, "sample", told)
    core = EngineCore(EngineConfig(model=str(folder), max_num_seqs=8), executor)
    first_sizes = []
    for kind in ("regex", None):
        plain = SamplingParams(max_tokens=6, ignore_eos=True)
        params = plain if kind is None else wanted(kind)
        for number in range(3):
            core.add(AddRequest(f"{number}", [5] * 14, params, end_token_ids=(end,)))
        told.clear()
        sizes.clear()
        run_to_end(core)
        step = ["sampled_logits", "prepare", "sample"] if kind else ["sampled_logits", "sample"]
        rest = told[len(step) :]
        assert told[: len(step)] == step  # of the prompts
        assert rest == ["replay", *step] * (len(rest) // (1 + len(step)))
        assert len(rest) > 10
        first_sizes.append(sizes[0])
    assert first_sizes[0] == first_sizes[1]


def test_what_becomes_too_costly_ends_its_own_request(folder: Path) -> None:
    end = json.loads((folder / "config.json").read_text())["eos_token_id"]
    rules = ["start: r0", *(f"r{i}: r{i + 1} r{i + 1}" for i in range(60)), 'r60: "a"']
    costly = StructuredOutputsParams(grammar="\n".join(rules), parameter="response_format")
    config = EngineConfig(model=str(folder))
    core = EngineCore(config, make_executor(folder), is_debugging=True)
    plain = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    core.add(AddRequest("plain", [5], plain))
    params = SamplingParams(structured_outputs=costly, max_tokens=100)
    core.add(AddRequest("costly", [5], params, end_token_ids=(end,)))
    ends = {}
    while core.has_work:
        for output in core.step().outputs:
            if output.finish_reason is not None:
                ends[output.request_id] = output
    assert ends["plain"].finish_reason is FinishReason.LENGTH
    assert ends["costly"].refusal is not None
    assert ends["costly"].refusal.message.startswith("response_format became too costly")
    assert ends["costly"].refusal.parameter == "response_format"
    assert "<non-verbose/>" not in ends["costly"].refusal.message


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "holds none"),
        ({"json_object": False}, "holds none"),
        ({"regex": "a", "choice": ["a"]}, "regex and choice"),
        ({"regex": 5}, "wrong type"),
        ({"choice": "yes"}, "wrong type"),
        ({"choice": []}, "empty one"),
        ({"choice": ["a", 1]}, "list of strings"),
        ({"choice": ["\ud800"]}, "no text"),
        ({"json": "{"}, "no JSON"),
        ({"json": "[]"}, "no object"),
        ({"json": {"a": {1, 2}}}, "no JSON"),
        ({"json": {"$schema": "http://json-schema.org/draft-03/schema#"}}, "draft-03"),
        ({"json": {"x-guidance": {"lenient": True}}}, "x-guidance"),
        ({"json": {"const": -(2**63)}}, "-9223372036854775808"),
        ({"json": {"enum": [1, -(2**63) + 1]}}, "-9223372036854775807"),
        ({"json": '{"minimum": -9.223372036854775808e18}'}, "exactly"),
        ({"json": {"const": 2**53 + 1}}, "exactly"),
        ({"json": {"items": {"minimum": 2**63}}}, "exactly"),
        ({"json": {"default": 2**64}}, "exactly"),
        ({"json": {"maximum": 10**400}}, "40 digits"),
        ({"json": '{"maximum": Infinity}'}, "inf"),
        ({"grammar": 'start: %json {"const": -9223372036854775807}'}, "too small"),
        ({"json": nested(100_000)}, "no JSON"),
        ({"json": nested(MAX_DEPTH)}, "deep"),
        ({"json": json.dumps(nested(MAX_DEPTH))}, "deep"),
        ({"regex": "(" * 65 + ")" * 65}, "deep"),
        ({"grammar": "start: " + "[" * 65}, "deep"),
        ({"regex": "a" * (MAX_BYTES + 1)}, "bytes"),
        ({"json": {"enum": ["ü" * (MAX_BYTES // 2)]}}, "bytes"),
    ],
)
def test_what_has_no_meaning_or_no_bound_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        StructuredOutputsParams(**fields)


@given(st.text(alphabet="([{}])ab", max_size=300))
def test_depth_is_looked_at_and_not_the_length(text: str) -> None:
    balanced = "".join(f"({character})" for character in text if character in "ab")
    StructuredOutputsParams(regex=balanced or "a")


@pytest.mark.parametrize(
    "options", [{"allowed_token_ids": [1]}, {"ignore_eos": True}], ids=lambda one: next(iter(one))
)
def test_what_contradicts_a_grammar_is_refused(llm: LLM, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError, match="together with structured_outputs"):
        llm.generate([[5]], wanted("regex", **options))
