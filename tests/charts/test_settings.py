"""Settings of the operator, and its image, as values of the chart make them."""

from __future__ import annotations

import yaml

from tests.support.operator.helm import CHART, environment, operator, render


def test_images_take_a_tag_a_digest_or_the_version_of_the_chart() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    _, container = operator(render())
    assert container["image"].endswith(f":{version}")
    digest = "sha256:" + "0" * 64
    objects = render(
        "image.repository=localhost:5001/octavo-operator",
        "image.tag=abc",
        "runtime.image.repository=localhost:5001/octavo-runtime",
        f"runtime.image.tag={digest}",
    )
    _, container = operator(objects)
    assert container["image"] == "localhost:5001/octavo-operator:abc"
    runtime = environment(objects)["OCTAVO_OPERATOR_RUNTIME_IMAGE"]
    assert runtime == f"localhost:5001/octavo-runtime@{digest}"


def test_settings_reach_the_operator_under_names_that_it_knows() -> None:
    from octavo_operator.settings import Settings

    _, container = operator(render())
    known = {f"OCTAVO_OPERATOR_{field.upper()}" for field in Settings.model_fields}
    assert {item["name"] for item in container["env"]} <= known


def test_a_digest_holds_whatever_the_tag_says() -> None:
    digest = "sha256:" + "0" * 64
    _, container = operator(render(f"image.digest={digest}", "image.repository=r/o"))
    assert container["image"] == f"r/o@{digest}"
    objects = render(
        f"runtime.image.digest={digest}", "runtime.image.tag=v1", "runtime.image.repository=r/r"
    )
    assert environment(objects)["OCTAVO_OPERATOR_RUNTIME_IMAGE"] == f"r/r:v1@{digest}"


def test_repositories_that_models_may_run_reach_the_operator() -> None:
    objects = render("runtime.allowedImages={ghcr.io/team/,localhost:5001/r}")
    allowed = environment(objects)["OCTAVO_OPERATOR_ALLOWED_RUNTIME_IMAGES"]
    assert allowed == "ghcr.io/team/,localhost:5001/r"


def test_the_turns_of_an_upgrade_reach_the_operator() -> None:
    name = "OCTAVO_OPERATOR_MAX_CONCURRENT_ROLLOUTS"
    assert environment(render())[name] == "0"
    assert environment(render("maxConcurrentRollouts=3"))[name] == "3"


def test_the_user_of_the_pods_reaches_the_operator() -> None:
    for given, told in ((), "65532"), (("runtime.user=1000660000",), "1000660000"):
        assert environment(render(*given))["OCTAVO_OPERATOR_RUNTIME_USER"] == told
    (_, container) = operator(render("runtime.user="))
    (variable,) = [each for each in container["env"] if each["name"].endswith("RUNTIME_USER")]
    assert variable["value"] == ""


def test_ports_of_downloads_reach_the_operator() -> None:
    assert environment(render())["OCTAVO_OPERATOR_DOWNLOAD_PORTS"] == "443"
    objects = render("runtime.downloadPorts={443,3128}")
    assert environment(objects)["OCTAVO_OPERATOR_DOWNLOAD_PORTS"] == "443,3128"
