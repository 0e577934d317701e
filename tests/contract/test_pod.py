"""The pod that the operator makes is one that the runtime knows: ports, probes, variables, times, ends."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub.constants
import msgspec
import pytest

import octavo.builtin
from octavo import errors
from octavo.cli.fetch import fetch_command
from octavo.model_source import commit_of, content_of
from octavo.server.http.sockets import EVERY_ADDRESS
from octavo.server.openai.adapters import AdapterTable, ServedAdapter
from octavo.server.process.failure import fail
from octavo.server.process.lifecycle import Lifecycle
from octavo.server.process.operations import OperationsApp
from octavo.server.process.options import API_KEY_VARIABLE, ServeOptions
from octavo.server.process.progress_port import ProgressPort
from octavo.server.process.run import ENGINE_EXIT_SECONDS, LAST_ANSWERS_SECONDS
from octavo.server.process.sleep_routes import SleepRoutes
from octavo.server.process.termination import (
    INTERNAL_ERROR_STATUS,
    KUBERNETES_PATH,
    MAX_BYTES,
    PATH_VARIABLE,
    USER_ERROR_STATUS,
    encode_termination,
)
from octavo.worker.machine import CPUS_VARIABLE
from octavo_operator.api.conditions import MODEL_REASONS, RUNTIME_REASONS, Reason
from octavo_operator.pods import view
from octavo_operator.render.api_keys import in_environment
from octavo_operator.render.pod import pod_template
from octavo_operator.startups import StartupReport, progress_text
from tests.support.operator.builders import NOW, container, pod, pod_context
from tests.support.operator.starting_pod import GIB, report
from tests.support.runtime.command_line import parsed

GPU = "nvidia.com/gpu"


def pod_spec(**fields: Any) -> dict[str, Any]:
    return dict(pod_template(pod_context(**fields))["spec"])


def serving(**fields: Any) -> dict[str, Any]:
    (found,) = pod_spec(**fields)["containers"]
    assert isinstance(found, dict)
    return found


def test_the_ports_of_the_container_are_those_that_the_server_listens_on() -> None:
    container_ports = {each["name"]: each["containerPort"] for each in serving()["ports"]}
    options = parsed(serving()["args"])
    assert container_ports == {"http": options.port, "ops": options.ops_port}
    assert options.host == EVERY_ADDRESS


def test_the_ports_are_the_runtimes_defaults() -> None:
    """What the pages say of one holds for the other."""
    defaults = ServeOptions.__dataclass_fields__
    options = parsed(serving()["args"])
    assert (options.port, options.ops_port) == (
        defaults["port"].default,
        defaults["ops_port"].default,
    )


def test_what_is_probed_and_scraped_is_a_route_of_the_ops_port() -> None:
    ops = OperationsApp(Lifecycle(lambda: 0.0), None, lambda: b"", SleepRoutes(None))  # type: ignore[arg-type]
    probes = [serving()[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    template = pod_template(pod_context())["metadata"]["annotations"]
    scraped = {"path": template["prometheus.io/path"], "port": template["prometheus.io/port"]}
    assert {each["path"] for each in [*probes, scraped]} == set(ops._routes)
    assert {each["port"] for each in probes} == {"ops"}
    assert scraped["port"] == str(parsed(serving()["args"]).ops_port)


def test_what_a_starting_server_answers_is_what_the_operator_reads() -> None:
    """And what the operator's tests take for such an answer."""
    seconds = iter((0.0, 0.0, 1.0, 1.0, 5.0)).__next__
    lifecycle = Lifecycle(seconds)
    lifecycle.begin_phase("resolve")
    lifecycle.begin_phase("load")
    lifecycle.note_bytes(GIB, 4 * GIB)
    sent = lifecycle.startup_report()
    assert sent == report("load", 4.0, GIB, 4 * GIB, ended=("resolve",))
    told = progress_text(None, StartupReport.model_validate_json(msgspec.json.encode(sent)))
    assert told == "loading weights: 1.0 of 4.0 GiB, 256 MiB/s"
    lifecycle = Lifecycle(lambda: 0.0)
    lifecycle.begin_phase("capture")
    lifecycle.commit = commit_of(Path("models--org--name/snapshots") / ("1a" * 20))
    lifecycle.mark_ready()
    read = StartupReport.model_validate(lifecycle.startup_report())
    assert (read.started, read.commit) == (True, "1a" * 20)
    lifecycle.content = content_of(Path(octavo.builtin.__file__).parent / "demo")
    read = StartupReport.model_validate(lifecycle.startup_report())
    assert read.content == lifecycle.content
    assert read.adapters is None
    lifecycle.adapters = AdapterTable()
    lifecycle.adapters.replace([ServedAdapter("sql", 1, "/sql", "", 0, "1a" * 8)])
    read = StartupReport.model_validate(lifecycle.startup_report())
    assert (read.adapters, read.adapters_content) == (1, lifecycle.adapters.content)
    lifecycle.adapters.replace([])
    assert StartupReport.model_validate(lifecycle.startup_report()).adapters == 0
    # A folder of one's own is no commit of a hub's.
    assert commit_of(Path("/claim") / ("1a" * 20)) is None


def test_a_download_answers_on_the_ops_port_as_a_server_does() -> None:
    (fetching,) = pod_spec(model={"uri": "hf://org/name"})["initContainers"]
    (ops,) = [each for each in serving()["ports"] if each["name"] == "ops"]
    assert "ports" not in fetching, "who edits a Deployment is warned of a port that is there twice"
    option = inspect.signature(fetch_command, eval_str=True).parameters["progress_address"]
    variables = {each["name"]: each["value"] for each in fetching["env"]}
    (info,) = option.annotation.__metadata__
    assert variables[info.envvar] == f"[{EVERY_ADDRESS}]:{ops['containerPort']}"
    loopback = variables[info.envvar].replace("[::]:8001", "127.0.0.1:0")
    with ProgressPort(loopback) as answering:
        answering(GIB, 4 * GIB)
        url = f"http://127.0.0.1:{answering.port}/startupz"
        answer = httpx.get(url)
        assert httpx.get(f"http://127.0.0.1:{answering.port}/metrics").status_code == 404
        assert httpx.post(url).status_code == 405
    told = progress_text(None, StartupReport.model_validate_json(answer.content))
    assert answer.status_code == 503
    assert told.startswith("downloading the model: 1.0 of 4.0 GiB, ")


def test_gpus_of_a_replica_are_ranks_that_the_engine_starts() -> None:
    args = serving(resources={"gpu": 4})["args"]
    engine = parsed(args).engine
    assert (engine.tensor_parallel_size, engine.device.value) == (4, "cuda")
    assert list(engine.local_ranks) == [0, 1, 2, 3]


def test_the_variables_of_the_pod_are_those_that_the_runtime_reads() -> None:
    fields: dict[str, Any] = {
        "model": {"uri": "hf://org/name"},
        "resources": {"cpu": "2"},
        "auth": {"secretRef": {"name": "keys"}},
    }
    names = {each["name"] for each in serving(**fields)["env"]}
    assert names == {"HOME", CPUS_VARIABLE, "HF_HUB_OFFLINE"}
    assert hasattr(huggingface_hub.constants, "HF_HUB_OFFLINE")
    earlier = in_environment(pod_context(**fields))
    assert earlier is not None
    (container,) = pod_template(earlier)["spec"]["containers"]
    assert {each["name"] for each in container["env"]} == names | {API_KEY_VARIABLE}


@pytest.mark.parametrize(
    "auth", [{"secretRef": {"name": "keys"}}, {"keysFrom": {"secretRef": {"name": "keys"}}}]
)
def test_the_server_reads_its_keys_where_the_secret_is_mounted(auth: dict[str, Any]) -> None:
    container = serving(auth=auth)
    options = parsed(container["args"])
    assert options.has_api_key
    assert str(options.api_key_file) in {each["mountPath"] for each in container["volumeMounts"]}
    assert not parsed(serving()["args"]).has_api_key


def test_a_leaving_pod_has_time_for_all_that_the_server_does_at_its_end() -> None:
    fields = {"rollout": {"drainTimeout": "2m"}}
    options = parsed(serving(**fields)["args"])
    needed = options.drain_grace_seconds + options.drain_timeout_seconds
    needed += LAST_ANSWERS_SECONDS + ENGINE_EXIT_SECONDS
    assert pod_spec(**fields)["terminationGracePeriodSeconds"] > needed


def ended(status: int, message: bytes = b"") -> Any:
    """What the operator makes of a container that ended so."""
    end = {"exitCode": status, "reason": "Error", "message": message.decode()}
    return view(pod(statuses=[container(ended_before=end)]), GPU, NOW).finding


def test_the_reasons_of_a_failed_start_are_those_that_the_operator_knows() -> None:
    known = {kind.reason for kind in errors.START_ERRORS}
    assert {reason.value for reason in MODEL_REASONS} == known
    assert {reason.value for reason in RUNTIME_REASONS} == known | {errors.OctavoError.reason}


@pytest.mark.parametrize("kind", [*errors.START_ERRORS, errors.OctavoError])
def test_last_words_become_the_finding_of_their_reason(
    kind: type[errors.OctavoError],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "log"))
    status = fail(kind("What is 9 must be 8."))
    capsys.readouterr()
    finding = ended(status, (tmp_path / "log").read_bytes())
    assert finding.reason.value == kind.reason
    assert finding.message == "What is 9 must be 8."


def test_last_words_that_are_too_long_still_say_their_reason() -> None:
    words = encode_termination(errors.ModelInvalidError.reason, 'a "quoted" ü ' * 2000)
    assert len(words) <= MAX_BYTES
    assert ended(USER_ERROR_STATUS, words).reason is Reason.MODEL_INVALID


def test_last_words_are_left_where_the_kubelet_looks() -> None:
    """The pod names no path, so Kubernetes' default holds."""
    assert "terminationMessagePath" not in serving()
    assert str(KUBERNETES_PATH) == "/dev/termination-log"
    assert PATH_VARIABLE not in {each["name"] for each in serving()["env"]}


@pytest.mark.parametrize("status", [USER_ERROR_STATUS, INTERNAL_ERROR_STATUS])
def test_a_status_of_failure_is_one_for_the_operator(status: int) -> None:
    assert ended(status).reason is Reason.CRASHING


def test_a_server_that_was_told_to_end_has_not_failed() -> None:
    """It exits with 0 after SIGTERM, also while it starts."""
    stopped = replace(view(pod(), GPU, NOW), finding=ended(0))
    assert stopped.finding is None
