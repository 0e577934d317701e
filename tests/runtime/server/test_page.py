"""The page: what it needs is in it, it is closed by the key, and it works in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from octavo.server.http.page import load_page
from tests.support.browser import CHROMIUM, Tab, browser
from tests.support.requirements import Requirement, lacks
from tests.support.runtime.server_process import ServerProcess
from tests.support.runtime.tools import ADD

KEY = "a-key"
DIGIT = {"type": "object", "properties": {"digit": {"type": "integer"}}, "required": ["digit"]}


@pytest.fixture(scope="module")
def guarded() -> Iterator[ServerProcess]:
    with ServerProcess("--api-key", KEY) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def signed_in(
    guarded: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, Tab]]:
    """A browser whose user gave a wrong key, then the right one."""
    if CHROMIUM is None:
        lacks(Requirement.CHROMIUM, "no Chromium is installed")
    with browser(tmp_path_factory.mktemp("browser")) as tab:
        tab.open(f"{guarded.url}/")
        for key in ("another", KEY):
            tab.value("document.getElementById('key').value = ''")
            tab.value("document.getElementById('key').focus()")
            tab.type(key)
            tab.press("Enter")
            if key != KEY:
                tab.wait_for("document.getElementById('problem').textContent.includes('this key')")
        tab.wait_for("document.getElementById('model')?.textContent === 'demo'")
        yield guarded, tab


@pytest.fixture
def tab(signed_in: tuple[ServerProcess, Tab]) -> Tab:
    """An empty conversation, nothing set."""
    _, tab = signed_in
    tab.value("for (const each of document.querySelectorAll('textarea, input')) each.value = ''")
    tab.value("document.getElementById('clear').click()")
    tab.problems.clear()
    return tab


def ask(tab: Tab, text: str) -> None:
    """Sends it by the keyboard and waits for the answer's end."""
    tab.value("document.getElementById('question').focus()")
    tab.type(text)
    tab.press("Enter")
    tab.wait_for("document.getElementById('stop').disabled")


def text_of(tab: Tab, identifier: str) -> str:
    # Not `innerText`, which is empty within a closed `details`.
    return str(tab.value(f"document.getElementById('{identifier}').textContent"))


def test_a_page_holds_all_that_it_needs() -> None:
    page = load_page()
    policy = page.headers["Content-Security-Policy"]
    for document in (page.document.decode(), page.sign_in.decode()):
        assert "{{" not in document
        assert not re.findall(r"""(?:src|href)=["'](?!#)""", document)
        for tag in ("style", "script"):
            (inside,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", document, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy


def test_the_page_is_closed_by_the_key(guarded: ServerProcess) -> None:
    closed = httpx.get(f"{guarded.url}/")
    assert closed.status_code == 401
    assert closed.headers["www-authenticate"] == "Bearer"
    assert "API key of this server" in closed.text
    assert "Conversation" not in closed.text
    opened = httpx.get(f"{guarded.url}/", headers={"Authorization": f"Bearer {KEY}"})
    assert opened.status_code == 200
    assert "Conversation" in opened.text
    for answer in (closed, opened):
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert httpx.get(f"{guarded.url}/load").json()["error"]["code"] == "invalid_api_key"


def test_the_load_is_that_of_the_metrics(http: httpx.Client, server: ServerProcess) -> None:
    http.post("/v1/completions", json={"model": "demo", "prompt": "a b c", "max_tokens": 4})
    load, metrics = http.get("/load").json(), server.metrics()
    for name in ("prompt_tokens_total", "generation_tokens_total", "requests_running"):
        assert load[name] == metrics[f"octavo_{name}"]
    assert load["generation_tokens_total"] >= 4
    assert load["model"]["name"] == "demo"
    card = http.get("/v1/models/demo").json()
    assert load["model"]["max_model_len"] == card["max_model_len"]


def test_a_chat_streams_and_is_shown_as_curl_and_python(tab: Tab) -> None:
    ask(tab, "Count to ten.")
    assert "1, 2, 3, 4, 5, 6, 7, 8, 9, 10" in text_of(tab, "log")
    tab.wait_for("document.getElementById('plots').textContent.includes('Tokens/s')")
    assert tab.problems == []


def test_what_is_copied_runs(signed_in: tuple[ServerProcess, Tab], tab: Tab) -> None:
    server, _ = signed_in
    for identifier, value in (
        ("question", 'It\'s "quoted" \\ and\nbroken: é 🙂'),
        ("system", "Be brief."),
        ("max-tokens", "3"),
        ("temperature", "0"),
        ("schema", json.dumps({**DIGIT, "additionalProperties": False})),
    ):
        tab.value(f"document.getElementById('{identifier}').value = {json.dumps(value)}")
    tab.value("document.getElementById('ask').dispatchEvent(new Event('input', {bubbles: true}))")
    environment = {"OCTAVO_API_KEY": KEY, "PATH": "/usr/bin:/bin"}
    for command in (
        ["bash", "-c", text_of(tab, "curl") + " -sS --fail-with-body"],
        [sys.executable, "-c", text_of(tab, "python")],
    ):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert "{" in done.stdout
    assert server.url in text_of(tab, "curl")


def test_a_call_is_shown_and_its_result_goes_back(tab: Tab) -> None:
    tab.value(f"document.getElementById('tools').value = {json.dumps(json.dumps([ADD]))}")
    ask(tab, "What is 17 + 25? Use the tool.")
    assert "add_numbers" in text_of(tab, "log")
    tab.value("document.querySelector('.call textarea').focus()")
    tab.type("42")
    tab.value("[...document.querySelectorAll('#log button')].at(-1).click()")
    tab.wait_for("document.getElementById('stop').disabled")
    assert tab.value(
        "[...document.querySelectorAll('#log h3')].map((each) => each.textContent)"
    ) == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert tab.problems == []


def test_an_error_is_told_and_the_conversation_goes_on(tab: Tab) -> None:
    tab.value("document.getElementById('tools').value = '[{'")
    ask(tab, "Hello")
    assert "is no JSON" in text_of(tab, "problem")
    tab.value("document.getElementById('tools').value = '[{}]'")
    ask(tab, "Hello")
    assert "tools" in text_of(tab, "problem")
    tab.value("document.getElementById('tools').value = ''")
    ask(tab, "Count to ten.")
    assert "10" in text_of(tab, "log")
    assert text_of(tab, "problem") == ""


def test_what_a_model_writes_is_text(tab: Tab) -> None:
    ask(tab, "<img src=x onerror=alert(1)>")
    assert "<img src=x" in text_of(tab, "log")
    assert tab.value("document.querySelectorAll('#log img').length") == 0


def test_the_keyboard_and_a_screen_reader_reach_everything(tab: Tab) -> None:
    assert all(name for role, name in tab.names() if role in ("textbox", "button", "spinbutton"))
    tab.value("document.getElementById('settings').open = true")
    reached = set()
    tab.value("document.activeElement.blur()")
    for _ in range(20):
        tab.press("Tab")
        reached.add(tab.value("document.activeElement.id || document.activeElement.tagName"))
    assert {"question", "send", "clear", "system", "tools", "schema", "log"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_the_dark(tab: Tab, scheme: str) -> None:
    tab.ask(
        "Emulation.setDeviceMetricsOverride",
        width=360,
        height=740,
        deviceScaleFactor=1,
        mobile=True,
    )
    tab.ask(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    tab.value("document.getElementById('max-tokens').value = '8'")
    ask(tab, "x" * 300)
    assert tab.value("document.documentElement.scrollWidth") == 360
    colours = tab.value(
        "['color', 'backgroundColor'].map((each) => getComputedStyle(document.body)[each])"
    )
    assert _contrast(*colours) > 7
    tab.ask("Emulation.clearDeviceMetricsOverride")


def _contrast(*colours: str) -> float:
    """As WCAG 2.2 defines it."""
    lights = sorted(_luminance(each) for each in colours)
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
