from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from octavo_operator.app import installation_of
from octavo_operator.settings import Settings


def settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    values = {"RUNTIME_IMAGE": "image:1", **environment}
    for name, value in values.items():
        monkeypatch.setenv(f"OCTAVO_OPERATOR_{name}", value)
    return Settings()


def test_what_the_chart_sets_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(
        monkeypatch,
        IMAGE_PULL_POLICY="Always",
        IMAGE_PULL_SECRETS="one, two",
        PROMETHEUS_URL="http://prometheus:9090",
        WATCH_NAMESPACES="a,b,",
        MONITORING_NAMESPACES="",
        HEALTH_PORT="9999",
        LOG_LEVEL="DEBUG",
        NAMESPACE="octavo-system",
        DOWNLOAD_PORTS="443,3128",
        ALLOWED_RUNTIME_IMAGES="a.example/r, b.example/",
    )
    assert found.watch_namespaces == ("a", "b")
    assert found.image_pull_secrets == ("one", "two")
    assert found.monitoring_namespaces == ()
    assert (found.health_port, found.log_level.value) == (9999, "DEBUG")
    installation = installation_of(found)
    assert installation.image_pull_policy == "Always"
    assert installation.operator_namespace == "octavo-system"
    assert installation.download_ports == (443, 3128)
    assert installation.allowed_runtime_images == ("a.example/r", "b.example/")


def test_an_empty_value_of_the_chart_means_all_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, WATCH_NAMESPACES="").watch_namespaces == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"RUNTIME_IMAGE": ""},
        {"IMAGE_PULL_POLICY": "Sometimes"},
        {"HEALTH_PORT": "70000"},
        {"LOG_LEVEL": "LOUD"},
        {"WORKERS": "0"},
        {"LOG_FORMAT": "xml"},
        {"DOWNLOAD_PORTS": "0"},
        {"DOWNLOAD_PORTS": ""},
        {"LEASE_NAME": ""},
        {"MAX_CONCURRENT_ROLLOUTS": "-1"},
        {"PROMETHEUS_TENANT": "a\nb"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_setting_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong)).lower()):
        settings(monkeypatch, **wrong)
