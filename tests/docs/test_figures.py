"""Figures on the pages of how-to and reference: seconds, sizes and ports are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from e2e.paths import LONGEST_CACHE_PATH
from e2e.preflight import machine
from e2e.registry import container as registry
from images import build as images
from images.inputs import ImageName
from octavo.server.openai.app import default_body_limit
from octavo.server.process.options import ServeOptions
from octavo_operator.autoscale import decide
from octavo_operator.endpoints import PROPAGATION_SECONDS
from octavo_operator.render.pod import pod_template
from octavo_operator.rollout import SURGE_PATIENCE_SECONDS
from tests.support.operator.builders import pod_context

ROOT = Path(__file__).parents[2]
_WORDS = {"a": 1, "one": 1, "two": 2, "twice": 2, "four": 4, "five": 5, "ten": 10}


def promised(page: str, pattern: str) -> float:
    """The one figure that the page has at this place, in digits or as a word."""
    text = " ".join((ROOT / "docs" / page).read_text("utf-8").split())
    (found,) = re.findall(pattern, text)
    return float(_WORDS.get(found, found))


@pytest.mark.parametrize(
    ("page", "pattern"),
    [
        ("how-to/expose.md", r"answers for (\w+) more seconds"),
        ("reference/llmdeployment.md", r"leaving pod answers for (\w+) more seconds"),
    ],
)
def test_a_leaving_pod_answers_for_its_grace(page: str, pattern: str) -> None:
    (serving,) = pod_template(pod_context())["spec"]["containers"]
    assert not {"--drain-grace", "--shutdown-grace"} & set(serving["args"])
    default = ServeOptions.__dataclass_fields__["drain_grace_seconds"].default
    assert promised(page, pattern) == default


def test_a_body_s_smallest_limit() -> None:
    assert promised("how-to/expose.md", r"which is (\d+) MiB or more") * 2**20 == (
        default_body_limit(1)
    )


def test_patience_and_steps_are_the_operator_s() -> None:
    page = "reference/llmdeployment.md"
    assert promised(page, r"has waited (\w+) minute for room") * 60 == SURGE_PATIENCE_SECONDS
    assert promised(page, r"has for (\w+) seconds led to other pods") == PROPAGATION_SECONDS
    assert promised(page, r"in one step to at most (\w+) as many") == decide._MAX_STEP_FACTOR
    assert promised(page, r"as many, or (\w+) more") == decide._MAX_STEP_REPLICAS
    (serving,) = pod_template(pod_context())["spec"]["containers"]
    startup = serving["startupProbe"]
    days = promised(page, r"has not started to serve within (\w+) day")
    assert startup["periodSeconds"] * startup["failureThreshold"] == days * 24 * 3600


def test_disk_that_is_asked_for() -> None:
    page = "how-to/clusters.md"
    assert promised(page, r"the cluster alone wants (\d+) GB") * machine.GB == (
        machine.ALL_BUILDS_BYTES
    )
    assert promised(page, r"free disk \((\d+) of them stay") * machine.GB == (
        machine.ALL_BUILDS_LEFT_BYTES
    )
    assert promised(page, r"a new cluster wants (\d+) GB") * machine.GB == machine.PULL_BYTES
    assert promised(page, r"and (\d+) GB for each node") * machine.GB == machine.POD_NODE_BYTES
    assert promised("how-to/images.md", r"asks for (\d+) GB free before a first runtime build") == (
        images.needed_gigabytes(ImageName.RUNTIME)
    )


def test_what_the_registry_and_the_builder_keep() -> None:
    page = "how-to/clusters.md"
    assert promised(page, r"data outgrow ([\d.]+) GB") * machine.GB == registry.LARGEST_BYTES
    assert promised(page, r"all but the (\w+) newest tags") == registry.KEPT_TAGS
    assert promised("how-to/images.md", r"keeps the last (\w+) tags") == images.KEPT_TAGS
    assert promised(page, r"Port (\d+) of 127\.0\.0\.1") == int(registry.ADDRESS.partition(":")[2])
    assert promised(page, r"at most (\d+) characters") == LONGEST_CACHE_PATH


def test_ports_of_api_servers_and_the_oldest_kubernetes_are_the_chart_s() -> None:
    page = " ".join((ROOT / "docs/how-to/own-cluster.md").read_text("utf-8").split())
    values = yaml.safe_load((ROOT / "charts/octavo/values.yaml").read_text("utf-8"))
    (ports,) = re.findall(r"shows another one than ([\d, or]+)\.", page)
    found = [int(each) for each in re.findall(r"\d+", ports)]
    assert found == values["networkPolicy"]["apiServerPorts"]
    chart = yaml.safe_load((ROOT / "charts/octavo/Chart.yaml").read_text("utf-8"))
    (oldest,) = re.findall(r"need Kubernetes ([\d.]+) or later", page)
    assert chart["kubeVersion"] == f">={oldest}.0-0"
