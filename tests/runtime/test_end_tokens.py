"""Every home of an end token ends answers, for `LLM` and for the server alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo import LLM, SamplingParams
from octavo.beam_search import BeamSearchParams
from octavo.end_tokens import find_end_tokens
from octavo.errors import ModelInvalidError
from octavo.tokenizer import load_tokenizer
from tests.support.runtime.server_process import ServerProcess

PROMPT = [5, 6, 7]
GREEDY = SamplingParams(temperature=0.0, max_tokens=24)
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}END\n{% endfor %}"


class Homes:
    """A copy of the tiny Llama in which only the homes that are asked for name an end."""

    def __init__(self, folder: Path, model: Any) -> None:
        self.folder = folder
        shutil.copytree(model.folder, folder, dirs_exist_ok=True)
        self.expected: list[int] = model.greedy(PROMPT, 24, ignore_eos=True)
        self.place = next(
            place
            for place, token in enumerate(self.expected)
            if place >= 3 and token not in self.expected[:place]
        )
        self.end = self.expected[self.place]
        self._change("config.json", eos_token_id=None)
        self._change("tokenizer_config.json", eos_token=None)
        (folder / "generation_config.json").unlink(missing_ok=True)
        (folder / "chat_template.jinja").unlink()
        self.text: str = load_tokenizer(folder).backend.id_to_token(self.end) or ""

    def _change(self, name: str, **fields: Any) -> None:
        path = self.folder / name
        raw = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**raw, **fields}))

    def name_it_in(self, home: str) -> None:
        if home == "config.json":
            self._change(home, eos_token_id=self.end)
        elif home == "config.json, a list":
            self._change("config.json", eos_token_id=[9999, self.end])
        elif home == "generation_config.json":
            self._change(home, eos_token_id=[self.end])
        elif home == "the tokenizer":
            self._change("tokenizer_config.json", eos_token=self.text)
        elif home == "the map":
            self._change("special_tokens_map.json", eos_token={"content": self.text})
        else:
            self._change("tokenizer_config.json", extra_special_tokens=[self.text])
            template = TEMPLATE.replace("END", self.text)
            (self.folder / "chat_template.jinja").write_text(template)


HOMES = (
    "config.json",
    "config.json, a list",
    "generation_config.json",
    "the tokenizer",
    "the map",
    "the chat template",
)


def load(folder: Path, **options: Any) -> LLM:
    return LLM(str(folder), dtype="float32", device="cpu", kv_cache_memory_bytes=2**20, **options)


@pytest.mark.parametrize("home", HOMES)
def test_an_answer_ends_whichever_home_names_its_end(
    tmp_path: Path, tiny_llama: Any, home: str
) -> None:
    homes = Homes(tmp_path, tiny_llama)
    homes.name_it_in(home)
    whole = homes.expected
    with load(tmp_path) as llm:
        (output,) = llm.generate(PROMPT, GREEDY)[0].outputs
        assert output.token_ids == whole[: homes.place + 1]
        assert (output.finish_reason, output.stop_reason) == ("stop", None)
        ignoring = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
        (output,) = llm.generate(PROMPT, ignoring)[0].outputs
        assert (output.token_ids, output.finish_reason) == (whole, "length")
        earlier = SamplingParams(temperature=0.0, max_tokens=24, stop_token_ids=[whole[1]])
        (output,) = llm.generate(PROMPT, earlier)[0].outputs
        assert (output.token_ids, output.stop_reason) == (whole[:2], whole[1])
        both = SamplingParams(temperature=0.0, max_tokens=24, stop_token_ids=[homes.end])
        (output,) = llm.generate(PROMPT, both)[0].outputs
        assert (output.token_ids, output.stop_reason) == (whole[: homes.place + 1], homes.end)
        (beam, *_) = llm.beam_search([PROMPT], BeamSearchParams(beam_width=1, max_tokens=24))[
            0
        ].outputs
        assert (beam.token_ids, beam.finish_reason) == (whole[: homes.place + 1], "stop")


def test_without_any_home_an_answer_goes_on_to_its_limit(tmp_path: Path, tiny_llama: Any) -> None:
    homes = Homes(tmp_path, tiny_llama)
    with load(tmp_path) as llm:
        (output,) = llm.generate(PROMPT, GREEDY)[0].outputs
    assert (output.token_ids, output.finish_reason) == (homes.expected, "length")


def test_the_server_ends_as_llm_does(tmp_path: Path, tiny_llama: Any) -> None:
    """It finds them where `LLM` does: the home that takes the most to be read stands for the others."""
    homes = Homes(tmp_path, tiny_llama)
    homes.name_it_in("the chat template")
    body = {"model": "demo", "prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    with ServerProcess("--dtype", "float32", model=str(homes.folder)) as server:
        url = f"{server.wait_ready().url}/v1/completions"

        def ask(**fields: Any) -> tuple[int, str]:
            answer = httpx.post(url, json=body | fields, timeout=60).json()
            return answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]

        assert ask() == (homes.place + 1, "stop")
        assert ask(ignore_eos=True) == (24, "length")
        assert ask(stop_token_ids=[homes.expected[1]]) == (2, "stop")
    (line,) = [line for line in server.log if line["event"] == "tokens that end an answer"]
    assert line["tokens"] == {str(homes.end): homes.text}


ids = st.integers(0, 50)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    config=st.one_of(st.none(), ids, st.lists(ids, max_size=3)),
    text=st.one_of(st.none(), ids, st.lists(ids, max_size=3)),
    generation=st.one_of(st.none(), ids, st.lists(ids, max_size=3)),
    chosen=st.one_of(st.none(), ids, st.lists(ids, max_size=3)),
    choice=st.sampled_from(["auto", "none", "vllm", "folder"]),
)
def test_the_ends_that_all_files_name_add_up(
    tmp_path: Path,
    tiny_llama: Any,
    config: Any,
    text: Any,
    generation: Any,
    chosen: Any,
    choice: str,
) -> None:
    other = tmp_path / "other"
    other.mkdir(exist_ok=True)
    for path, value, others in (
        (tmp_path / "config.json", config, {"text_config": {"eos_token_id": text}}),
        (tmp_path / "generation_config.json", generation, {}),
        (other / "generation_config.json", chosen, {}),
    ):
        path.write_text(json.dumps({"eos_token_id": value, **others}))
    tokenizer = load_tokenizer(tiny_llama.folder)
    found = find_end_tokens(tmp_path, str(other) if choice == "folder" else choice, tokenizer)
    named = [config, text, generation, *([chosen] if choice == "folder" else [])]
    expected = {*tokenizer.end_token_ids}
    for value in named:
        expected |= {*(value if isinstance(value, list) else [value])} - {None}
    assert len(found) == len(expected)
    assert {*found} == expected


@pytest.mark.parametrize("value", ["</s>", [2, -1], [[2]], True, 2.0])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_what_is_no_token_id_is_refused_with_its_file(
    tmp_path: Path, tiny_llama: Any, name: str, value: Any
) -> None:
    (tmp_path / name).write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(ModelInvalidError, match=rf"{name}: eos_token_id is "):
        find_end_tokens(tmp_path, "auto", load_tokenizer(tiny_llama.folder))


def test_files_that_are_missing_name_nothing(tmp_path: Path, tiny_llama: Any) -> None:
    tokenizer = load_tokenizer(tiny_llama.folder)
    assert find_end_tokens(tmp_path, "auto", tokenizer) == tokenizer.end_token_ids
