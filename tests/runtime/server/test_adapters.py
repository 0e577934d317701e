"""Adapters of a served model: chosen by name, loaded and unloaded while it answers."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from tests.support.runtime.adapters import save_adapter
from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import eventually, start_command
from tests.support.runtime.tiny_llama import save_tiny_llama

PROMPT = [5, 6, 7, 8, 9] * 4


@dataclass(frozen=True)
class Served:
    process: FaultyServer
    folder: Path
    models: dict[str, Any]
    """transformers' own, by the names that requests give."""

    def complete(self, model: str, count: int = 8) -> httpx.Response:
        body = {"model": model, "prompt": PROMPT, "max_tokens": count, "temperature": 0}
        body |= {"ignore_eos": True, "return_token_ids": True}
        return httpx.post(f"{self.process.url}/v1/completions", json=body, timeout=60)

    def tokens(self, model: str) -> list[int]:
        (choice,) = self.complete(model).raise_for_status().json()["choices"]
        found: list[int] = choice["token_ids"]
        return found

    def expected(self, model: str, count: int = 8) -> list[int]:
        out = self.models[model].generate(
            torch.tensor([PROMPT]), max_new_tokens=count, min_new_tokens=count, do_sample=False
        )
        found: list[int] = out[0, len(PROMPT) :].tolist()
        return found

    def command(self, route: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.process.ops_url}/v1/{route}_lora_adapter", json=body, timeout=60)

    def listed(self) -> dict[str, str | None]:
        cards = httpx.get(f"{self.process.url}/v1/models", timeout=60).json()["data"]
        return {card["id"]: card["parent"] for card in cards}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("adapters")
    model = save_tiny_llama(folder / "base")
    models = {"demo": model}
    for seed, name in enumerate(("one", "two", "late"), 1):
        models[name] = save_adapter(folder / name, model, rank=2 * seed, seed=seed)
    save_adapter(folder / "wide", model, rank=17)
    entry = json.dumps({"name": "two", "path": str(folder / "two"), "base_model_name": "llama"})
    flags = ("--enable-lora", "--max-loras", "2", "--dtype", "float32", "--metrics-names", "vllm")
    modules = ("--lora-modules", f"one={folder / 'one'}", entry)
    with FaultyServer(folder, *flags, *modules, model=str(folder / "base")) as process:
        process.wait_ready()
        yield Served(process, folder, models)


def test_the_report_of_the_start_tells_whether_two_servers_hold_the_same(served: Served) -> None:
    def told() -> tuple[int, str]:
        report = httpx.get(f"{served.process.ops_url}/startupz", timeout=60).json()
        return report["adapters"], report["adapters_content"]

    before = told()
    assert before[0] == 2
    late = {"lora_name": "late", "lora_path": str(served.folder / "late")}
    assert served.command("load", **late).status_code == 200
    assert told()[0] == 3
    assert told()[1] != before[1]
    other = {**late, "lora_path": str(served.folder / "one"), "load_inplace": True}
    with_late = told()
    assert served.command("load", **other).status_code == 200
    assert told()[0] == 3
    assert told()[1] != with_late[1], "other files under the same name"
    assert served.command("unload", lora_name="late").status_code == 200
    assert told() == before


def test_requests_choose_by_name(served: Served) -> None:
    for name in ("demo", "one", "two"):
        assert served.tokens(name) == served.expected(name)
    assert served.listed() == {"demo": None, "one": "demo", "two": "llama"}
    missing = served.complete("three")
    assert missing.status_code == 404
    assert "demo, one, two" in missing.json()["error"]["message"]


def test_adapters_come_and_go_while_requests_run(served: Served) -> None:
    late = {"lora_name": "late", "lora_path": str(served.folder / "late")}
    assert served.complete("late").status_code == 404
    assert served.command("load", **late).status_code == 200
    assert served.listed()["late"] == "demo"
    twice = served.command("load", **late)
    assert twice.status_code == 400
    assert "loaded already" in twice.json()["error"]["message"]
    assert served.command("load", **late, load_inplace=True).status_code == 200
    body = {"model": "late", "prompt": PROMPT, "max_tokens": 8, "temperature": 0, "stream": True}
    body |= {"ignore_eos": True, "return_token_ids": True}
    url = f"{served.process.url}/v1/completions"
    with (
        served.process.faults.slow_steps(),
        httpx.stream("POST", url, json=body, timeout=60) as stream,
    ):
        lines = stream.iter_lines()
        first = next(lines)
        assert served.command("unload", lora_name="late").status_code == 200
        assert served.complete("late").status_code == 404
        chunks = [line[6:] for line in [first, *lines] if line.startswith("data: {")]
    tokens = [json.loads(chunk)["choices"][0].get("token_ids") or [] for chunk in chunks]
    assert list(itertools.chain(*tokens)) == served.expected("late")
    gone = served.command("unload", lora_name="late")
    assert gone.status_code == 404
    assert gone.json()["error"]["message"].endswith("is not loaded. Loaded are: one, two.")
    # Under the same name again, nothing that was cached before is found.
    late["lora_path"] = str(served.folder / "one")
    assert served.command("load", **late).status_code == 200
    assert served.tokens("late") == served.expected("one")
    assert served.command("unload", lora_name="late").status_code == 200


def test_routers_that_know_vllm_read_which_adapters_run_and_wait(served: Served) -> None:
    def use() -> tuple[str, str]:
        text = httpx.get(f"{served.process.ops_url}/metrics", timeout=60).text
        told = {family.name: family for family in text_string_to_metric_families(text)}
        (sample,) = told["vllm:lora_requests_info"].samples
        assert sample.labels["max_lora"] == "2"
        assert time.time() - sample.value < 600  # the Unix time, by which routers take the latest
        return sample.labels["running_lora_adapters"], sample.labels["waiting_lora_adapters"]

    third = {"lora_name": "third", "lora_path": str(served.folder / "late")}
    assert served.command("load", **third).status_code == 200
    assert use() == ("", "")
    url = f"{served.process.url}/v1/completions"
    with ThreadPoolExecutor(1) as pool:
        lines: list[Iterator[str]] = []
        with served.process.faults.slow_steps(), ExitStack() as streams:
            for name in ("two", "one", "demo"):
                body = {"model": name, "prompt": PROMPT, "max_tokens": 200, "stream": True}
                body |= {"ignore_eos": True}
                stream = streams.enter_context(httpx.stream("POST", url, json=body, timeout=60))
                lines.append(stream.iter_lines())  # a stream lives as long as who reads it
                next(lines[-1])
            waiting = pool.submit(served.tokens, "third")
            eventually(lambda: use() == ("one,two", "third"))
        assert waiting.result() == served.expected("late")
    assert use() == ("", "")
    assert served.command("unload", lora_name="third").status_code == 200


def test_bad_adapters_are_refused_by_name(served: Served) -> None:
    wide = served.command("load", lora_name="x", lora_path=str(served.folder / "wide"))
    assert wide.status_code == 400
    error = wide.json()["error"]
    assert error["code"] == "adapter_refused"
    assert "lora_A.weight has the rank 17" in error["message"]
    assert "--max-lora-rank" in error["message"]
    for path, words in (("nowhere", "adapter_config.json"), ("base", "adapter_config.json")):
        refused = served.command("load", lora_name="x", lora_path=str(served.folder / path))
        assert refused.status_code == 400
        assert words in refused.json()["error"]["message"]
    taken = served.command("load", lora_name="demo", lora_path=str(served.folder / "one"))
    assert "the model's own" in taken.json()["error"]["message"]
    assert taken.json()["error"]["param"] == "lora_name"
    own = served.command("unload", lora_name="demo")
    assert own.status_code == 400
    assert "the model's own name" in own.json()["error"]["message"]
    for name in ("a\nb", " x", "\u202ex"):
        odd = served.command("load", lora_name=name, lora_path=str(served.folder / "one"))
        assert odd.status_code == 400
        assert "printable" in odd.json()["error"]["message"]
        assert odd.json()["error"]["param"] == "lora_name"
    assert served.command("load", lora_name="x").status_code == 400
    assert served.command("load", lora_name="x", lora_path="y", scale=2).status_code == 400
    url = f"{served.process.ops_url}/v1/load_lora_adapter"
    plain = httpx.post(url, content=b"{}", headers={"content-type": "text/plain"}, timeout=60)
    assert plain.status_code == 415  # what a page in a browser may send anywhere
    assert httpx.get(url, timeout=60).status_code == 405
    assert served.tokens("demo") == served.expected("demo")


def test_a_start_with_a_bad_adapter_fails_with_its_name(served: Served) -> None:
    flags = ("--port", "0", "--ops-port", "0", "--enable-lora", "--kv-cache-memory", "1Mi")
    module = ("--lora-modules", f"wide={served.folder / 'wide'}")
    with start_command("serve", str(served.folder / "base"), *flags, *module) as process:
        _, errors = process.communicate(timeout=280)
    assert process.returncode == 3
    assert "rank 17" in errors
