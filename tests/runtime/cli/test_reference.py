"""The reference names every flag, metric, route, field and error that exists, and none that does not."""

from __future__ import annotations

import dataclasses
import enum
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from octavo.cli.main import app
from octavo.cli.reference import PAGE, main, updated
from octavo.models.registry import ENCODERS, FAMILIES
from octavo.server.openai import protocol
from octavo.server.openai.app import build_app
from octavo.server.process.adapter_routes import AdapterRoutes
from octavo.server.process.engine_view import AdapterNames, EngineView
from octavo.server.process.lifecycle import Lifecycle, State
from octavo.server.process.metrics import ServerMetrics
from octavo.server.process.operations import OperationsApp
from octavo.server.process.sleep_routes import SleepRoutes

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"
COMMANDS = ("serve", "fetch", "inspect", "chat", "bench serve")
_FLAG = re.compile(r"`(--?[a-z-]+)`")


def section(page: str, heading: str) -> str:
    """The text below a heading that begins so."""
    _, _, rest = (REFERENCE / page).read_text("utf-8").partition(f"\n{heading}")
    assert rest, heading
    return re.split(r"\n#{1,2} ", rest)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without their heads."""
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line] for line in lines]


def options(command: str) -> dict[str, Any]:
    """The options of a command by their flags."""
    found: Any = typer.main.get_command(app)
    for word in command.split():
        found = found.commands[word]
    return {
        flag: option
        for option in found.params
        for flag in (*option.opts, *option.secondary_opts)
        if flag.startswith("-") and flag != "--help"
    }


def documented_flags(command: str) -> list[list[str]]:
    """The rows of a command's flags."""
    return [row for row in rows(section("cli.md", f"## `octavo {command}")) if row[0][1] == "-"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_in_the_reference(command: str) -> None:
    flags = [flag for row in documented_flags(command) for flag in _FLAG.findall(row[0])]
    assert sorted(flags) == sorted(options(command))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_defaults_in_the_reference_are_those_of_the_code(command: str) -> None:
    known = options(command)
    for flags, told, _ in documented_flags(command):
        default = known[_FLAG.findall(flags)[0]].default
        if default is None:  # what happens then is told in words
            assert not told.strip("`")[0].isdigit(), flags
        else:
            assert told.strip("`") == _shown(default), flags


def test_the_table_of_serve_is_that_of_the_options() -> None:
    page = (ROOT / PAGE).read_text("utf-8")
    assert page == updated(page), "run `make reference`"


def test_check_reports_a_stale_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / PAGE
    copy.parent.mkdir(parents=True)
    page = (ROOT / PAGE).read_text("utf-8")
    copy.write_text(page, "utf-8")
    assert main(["--root", str(tmp_path), "--check"]) == 0
    copy.write_text(page.replace("sequences that run at once", "requests"), "utf-8")
    assert main(["--root", str(tmp_path), "--check"]) == 1
    assert "make reference" in capsys.readouterr().err
    assert main(["--root", str(tmp_path)]) == 0
    assert copy.read_text("utf-8") == page


def _shown(default: object) -> str:
    if isinstance(default, enum.Enum):
        return str(default.value)
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_every_architecture_is_in_the_reference() -> None:
    text = (REFERENCE / "cli.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+ForCausalLM)`", text, re.MULTILINE) == sorted(FAMILIES)
    bases = sorted(name for name in ENCODERS if name.endswith("Model"))
    assert re.findall(r"^\| `(\w+Model)`", text, re.MULTILINE) == bases
    # The front page names them by family.
    front = re.sub(r"[ \n-]", "", (ROOT / "README.md").read_text("utf-8")).lower()
    for architecture in FAMILIES:
        assert architecture.removesuffix("ForCausalLM").lower() in front


def server_metrics() -> ServerMetrics:
    lifecycle = Lifecycle(lambda: 0.0)
    lifecycle.begin_phase("load")
    lifecycle.note_bytes(1, 2)
    lifecycle.mark_ready()
    view = EngineView.of_nothing()
    view = dataclasses.replace(view, block_size=16, adapters=AdapterNames({}, 1))
    metrics = ServerMetrics("m", lifecycle, lambda: view, has_vllm_names=True)
    metrics.count_key("blue", 5)  # before a key is used there is nothing to be told of it
    return metrics


def test_every_metric_is_in_the_reference_with_its_type_and_labels() -> None:
    text = server_metrics().exposition().decode()
    exposed = dict(re.findall(r"^# TYPE ((?:octavo_|vllm:)\w+) (\w+)", text, re.MULTILINE))
    documented = {}
    for names, kind, _ in rows(section("metrics.md", "## The runtime")):
        for name, labels in re.findall(r"`((?:octavo_|vllm:)\w+)(?:\{([\w,]+)\})?`", names):
            documented[name] = kind
            for label in filter(None, labels.split(",")):
                assert re.search(rf"^{name}\{{.*\b{label}=", text, re.MULTILINE), name
    assert documented == exposed


async def nothing() -> bytes:
    return b""


def test_every_route_is_in_the_reference() -> None:
    http = build_app(None, None, exposition=nothing, tokenizer_info={})  # type: ignore[arg-type] # the routes alone: nothing is asked
    # `{id}` is what a reader writes; the route takes names with slashes.
    served = {
        (method, getattr(route, "path", "").replace("{name:path}", "{id}"))
        for route in http.routes
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    text = (REFERENCE / "http-api.md").read_text("utf-8")
    assert set(re.findall(r"`(GET|POST) (/[\w/.{}]+)`", text)) == served
    ops = OperationsApp(Lifecycle(lambda: 0.0), None, lambda: b"", SleepRoutes(None))  # type: ignore[arg-type]
    ports = section("http-api.md", "## Ops port")
    assert set(re.findall(r"^\| `(/\w+)`", ports, re.MULTILINE)) == {*ops._routes, *ops._asked}
    commands = AdapterRoutes(is_enabled=True).commands
    assert set(re.findall(r"^\| `(/v1/\w+)`", ports, re.MULTILINE)) == set(commands)


def test_every_field_of_a_request_is_in_the_reference() -> None:
    documented: dict[str, set[str]] = {"chat": set(), "completions": set()}
    for cells in rows(section("http-api.md", "## Request fields")):
        # A route in brackets holds for the names before it.
        for names, route in re.findall(r"((?:`[\w.]+`(?:, )?)+)(?: \((\w+)\))?", cells[0]):
            for route_or_each in [route] if route else documented:
                documented[route_or_each] |= set(re.findall(r"`(\w+)", names))
    assert documented["chat"] == set(protocol.ChatCompletionRequest.model_fields)
    assert documented["completions"] == set(protocol.CompletionRequest.model_fields)


def test_every_error_code_is_in_the_reference() -> None:
    source = "\n".join(
        file.read_text("utf-8") for file in (ROOT / "runtime/octavo/server").rglob("*.py")
    )
    raised = set(re.findall(r'\bcode(?:: str)? ?= ?"([a-z_]+)"', source))
    raised |= {
        f"server_{state.value}"
        for state in State
        if state not in (State.READY, State.REFUSING, State.STOPPED)
    }
    documented = {
        code
        for cells in re.findall(
            r"^\| [\d, ]+ \| ([^|]*) \|", section("http-api.md", "## Errors"), re.M
        )
        for code in re.findall(r"`([a-z_]+)`", cells)
    }
    assert documented == raised
