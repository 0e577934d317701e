"""Flags that `spec.extraArgs` passes on: every flag that the runtime has is one or is refused, and what the
runtime does not take is told by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.cli.main import run
from octavo.server.process.termination import PATH_VARIABLE, USER_ERROR_STATUS
from octavo_operator.api.conditions import Reason
from octavo_operator.api.v1alpha1.extra_args import REFUSED
from octavo_operator.pods import view
from octavo_operator.render.command import serve_arguments
from octavo_operator.render.pod import pod_template
from tests.support.operator.builders import KEY, NOW, container, pod, pod_context, spec
from tests.support.runtime.command_line import COMMANDS, parsed

PASSED_ON = {
    "--chat-template-content-format",
    "--enable-tokenizer-info-endpoint",
    "--generation-config",
    "--log-level",
    "--lora-modules",
    "--max-body-size",
    "--no-ui",
    "--pipeline-parallel-size",
    "--reasoning-parser",
    "--request-timeout",
    "--stall-timeout",
    "--tool-call-parser",
    "--ui",
}
"""Those that no field is for. A new flag of the runtime belongs here, or to those that are refused: what the
operator relies on, and what reads any file of the container."""


def flags() -> set[str]:
    """All of `octavo serve`."""
    parameters = COMMANDS.commands["serve"].params
    spellings = {each for one in parameters for each in (*one.opts, *one.secondary_opts)}
    return {each for each in spellings if each.startswith("--")}


def test_every_flag_of_the_runtime_is_passed_on_or_refused() -> None:
    assert flags() - REFUSED.keys() == PASSED_ON
    assert not PASSED_ON & REFUSED.keys()


def test_what_is_passed_on_arrives_in_the_server() -> None:
    extra = ["--tool-call-parser=hermes", "--no-ui", "--request-timeout=2.5", "--stall-timeout=9"]
    options = parsed(serve_arguments(KEY, spec(extraArgs=extra)))
    assert (options.tool_call_parser, options.ui) == ("hermes", False)
    assert (options.request_timeout_seconds, options.stall_timeout_seconds) == (2.5, 9.0)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--no-such-flag=1", "No such option: --no-such-flag"),
        (
            "--tool-call-parse=hermes",  # no flag is taken by its first letters
            "No such option: --tool-call-parse (Possible options: --tool-call-parser",
        ),
        ("--max-model-length=9", "spec.engine.maxModelLen"),
        ("--tool-call-parser=mine", "--tool-call-parser is 'mine'"),
        ("--ui=yes", "--ui"),
        ("--request-timeout", "--request-timeout"),
    ],
)
def test_what_the_runtime_does_not_take_is_told_by_where_it_was_written(
    argument: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv(PATH_VARIABLE, str(log))
    assert run(serve_arguments(KEY, spec(extraArgs=[argument]))) == USER_ERROR_STATUS
    message = log.read_text(encoding="utf-8")
    assert json.loads(message)["reason"] == Reason.INVALID_CONFIGURATION
    ended = {"exitCode": USER_ERROR_STATUS, "message": message}
    live = pod(statuses=[container(ended=ended)])
    live["spec"] = pod_template(pod_context(extraArgs=[argument]))["spec"]
    finding = view(live, "nvidia.com/gpu", NOW).finding
    assert finding is not None
    assert finding.reason is Reason.INVALID_CONFIGURATION
    assert finding.message.startswith("spec.extraArgs: ")
    assert words in finding.message
