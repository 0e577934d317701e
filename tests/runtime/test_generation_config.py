"""A model's own sampling defaults: what is read, what is refused, and who wins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, SamplingParams
from octavo.errors import InvalidConfigurationError, ModelInvalidError
from octavo.generation_config import choose_sampling_defaults

QWEN3 = {
    "bos_token_id": 151643,
    "do_sample": True,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
    "temperature": 0.6,
    "top_k": 20,
    "top_p": 0.95,
    "transformers_version": "4.51.0",
}


def write(folder: Path, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "generation_config.json").write_text(json.dumps(fields))
    return folder


def test_a_published_file_is_read_in_full(tmp_path: Path) -> None:
    found = choose_sampling_defaults(write(tmp_path, **QWEN3), "auto")
    assert found.params() == SamplingParams(temperature=0.6, top_k=20, top_p=0.95)


def test_the_other_fields_and_what_is_null(tmp_path: Path) -> None:
    write(tmp_path, min_p=0.1, repetition_penalty=1.05, max_new_tokens=2048, top_k=None)
    found = choose_sampling_defaults(tmp_path, "auto")
    assert found.params() == SamplingParams(min_p=0.1, repetition_penalty=1.05, max_tokens=2048)
    assert found.max_tokens == 2048


def test_what_is_not_applied_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    neutral = {"num_beams": 1, "typical_p": 1.0, "suppress_tokens": [], "min_length": 0}
    write(tmp_path, **QWEN3, **neutral, no_repeat_ngram_size=3, stop_strings=["END"])
    assert choose_sampling_defaults(tmp_path, "auto").params().top_k == 20
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(": ")[2].partition(", which is not")[0] for text in told] == [
        "no_repeat_ngram_size is 3",
        "stop_strings is ['END']",
    ]


def test_what_is_given_wins(tmp_path: Path) -> None:
    sampling = choose_sampling_defaults(write(tmp_path, **QWEN3), "auto")
    assert sampling.params(temperature=0.0, top_k=0) == SamplingParams(
        temperature=0.0, top_k=0, top_p=0.95
    )


@pytest.mark.parametrize("off", ["none", "vllm"])
def test_turned_off_it_is_not_looked_at(tmp_path: Path, off: str) -> None:
    write(tmp_path, **QWEN3, repetition_penalty="broken, and not looked at")
    found = choose_sampling_defaults(tmp_path, off)
    assert found.params() == SamplingParams()


def test_a_model_without_the_file_has_the_usual_defaults(tmp_path: Path) -> None:
    found = choose_sampling_defaults(tmp_path, "auto")
    assert found.params() == SamplingParams()


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    model = write(tmp_path / "model", temperature=0.6)
    other = write(tmp_path / "other", temperature=0.2)
    found = choose_sampling_defaults(model, str(other))
    assert found.params().temperature == 0.2


def test_a_folder_that_holds_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigurationError, match="'no-such-folder'"):
        choose_sampling_defaults(tmp_path, "no-such-folder")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": -1}, "temperature is -1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": 2.5}, "top_k is 2.5; it must be an integer"),
        ({"min_p": True}, "min_p is True"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": 10**400}, "max_new_tokens is 1000"),
    ],
    ids=str,
)
def test_a_damaged_field_is_named_with_file_and_value(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelInvalidError, match=rf"generation_config\.json: {message}"):
        choose_sampling_defaults(write(tmp_path, **fields), "auto")


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"], ids=repr)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ModelInvalidError, match=r"generation_config\.json"):
        choose_sampling_defaults(tmp_path, "auto")


PROMPT = [5, 6, 7]


def run(folder: Path, **options: Any) -> tuple[SamplingParams, Any]:
    """What `LLM` takes by default, and its answer when it is told nothing."""
    with LLM(
        str(folder), dtype="float32", device="cpu", kv_cache_memory_bytes=2**20, **options
    ) as llm:
        return llm.get_default_sampling_params(), llm.generate(PROMPT)[0].outputs[0]


def test_an_offline_model_samples_as_its_publisher_says(tmp_path: Path, tiny_llama: Any) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama.folder, folder)
    expected = tiny_llama.greedy(PROMPT, 24)
    write(folder, temperature=0.0, max_new_tokens=24)
    defaults, answer = run(folder)
    assert defaults == SamplingParams(temperature=0.0, max_tokens=24)
    assert answer.token_ids == expected
    elsewhere = write(tmp_path / "other", temperature=0.0, max_new_tokens=3)
    _, answer = run(folder, generation_config=str(elsewhere))
    assert answer.token_ids == expected[:3]
    defaults, _ = run(folder, generation_config="none")
    assert defaults == SamplingParams()
