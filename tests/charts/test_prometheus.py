"""Prometheus: what it wants is mounted, it is reached through the policy, and it scrapes."""

from __future__ import annotations

import pytest

from octavo_operator.names import OPS_PORT
from tests.support.operator.helm import Object, environment, of_kind, operator, render


def of_prometheus(*settings: str) -> tuple[dict[str, str], dict[str, Object]]:
    """The settings that reach the operator, and the sources of its folder by the file that each makes."""
    objects = render("prometheus.url=https://thanos.monitoring:9091", *settings)
    pod, container = operator(objects)
    volumes = {each["name"]: each for each in pod["volumes"]}
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    found = {}
    if "prometheus" in volumes:
        for source in volumes["prometheus"]["projected"]["sources"]:
            (body,) = source.values()
            file = body["path"] if "path" in body else body["items"][0]["path"]
            found[f"{mounts['prometheus']}/{file}"] = source
    prefix = "OCTAVO_OPERATOR_PROMETHEUS_"
    known = environment(objects).items()
    return {name.removeprefix(prefix): value for name, value in known if prefix in name}, found


def test_what_prometheus_wants_is_mounted_and_named_to_the_operator() -> None:
    settings, sources = of_prometheus(
        "prometheus.bearerToken.secretName=thanos",
        "prometheus.bearerToken.key=t",
        "prometheus.ca.configMapName=service-ca",
        "prometheus.ca.key=service-ca.crt",
        "prometheus.tenant=team-a",
    )
    assert settings["TENANT"] == "team-a"
    assert sources == {
        settings["BEARER_TOKEN_FILE"]: {
            "secret": {"name": "thanos", "items": [{"key": "t", "path": "token"}]}
        },
        settings["CA_FILE"]: {
            "configMap": {
                "name": "service-ca",
                "items": [{"key": "service-ca.crt", "path": "ca.crt"}],
            }
        },
    }
    settings, sources = of_prometheus(
        "prometheus.bearerToken.serviceAccount=true", "prometheus.ca.secretName=ca"
    )
    assert set(sources) == {settings["BEARER_TOKEN_FILE"], settings["CA_FILE"]}
    assert "serviceAccountToken" in sources[settings["BEARER_TOKEN_FILE"]]


def test_a_prometheus_that_answers_everybody_needs_no_volume() -> None:
    settings, sources = of_prometheus()
    assert set(settings) == {"URL"}
    assert sources == {}


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://prometheus.monitoring:9090", 9090),
        ("https://prometheus.example.com/prefix", 443),
        ("http://prometheus", 80),
    ],
)
def test_network_policy_lets_the_operator_reach_prometheus(url: str, port: int) -> None:
    (policy,) = of_kind(render(f"prometheus.url={url}"), "NetworkPolicy")
    anywhere = [block for block in policy["spec"]["egress"] if "to" not in block]
    ports = {rule["port"] for block in anywhere for rule in block["ports"]}
    assert ports == {53, 443, 6443, 8443, 16443, port}
    (inbound,) = policy["spec"]["ingress"]
    assert [rule["port"] for rule in inbound["ports"]] == ["health"]


@pytest.mark.parametrize(
    ("url", "namespace"),
    [
        ("http://prometheus-server.monitoring", "monitoring"),
        ("http://prometheus.observe.svc.cluster.local:9090/prefix", "observe"),
        ("http://prometheus:80", "octavo-system"),
    ],
)
def test_network_policy_lets_the_operator_reach_prometheus_behind_its_service(
    url: str, namespace: str
) -> None:
    """Where a policy is compared with the pod's port, that of the Service opens nothing."""
    (policy,) = of_kind(render(f"prometheus.url={url}"), "NetworkPolicy")
    _, within = [block for block in policy["spec"]["egress"] if "to" in block]
    (peer,) = within["to"]
    assert peer == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    }
    assert within["ports"] == [{"port": 1, "endPort": 65535, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("url", "port"), [("http://[fd00::1]", 80), ("https://[fd00::1]:9091/p", 9091)]
)
def test_an_address_opens_its_port_and_no_namespace(url: str, port: int) -> None:
    (policy,) = of_kind(render(f"prometheus.url={url}"), "NetworkPolicy")
    egress = policy["spec"]["egress"]
    assert {"ports": [{"port": port, "protocol": "TCP"}]} in egress
    (models,) = [block for block in egress if "to" in block]
    assert [each["port"] for each in models["ports"]] == [OPS_PORT]


@pytest.mark.parametrize(
    ("settings", "namespaces"),
    [
        ((), {}),
        (
            ("watchNamespaces={a,b}",),
            {
                "matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]}
                ]
            },
        ),
    ],
)
def test_network_policy_lets_the_operator_ask_the_models_ops_port(
    settings: tuple[str, ...], namespaces: Object
) -> None:
    (policy,) = of_kind(render(*settings), "NetworkPolicy")
    (block,) = [block for block in policy["spec"]["egress"] if "to" in block]
    assert block["to"] == [{"namespaceSelector": namespaces}]
    assert block["ports"] == [{"port": OPS_PORT, "protocol": "TCP"}]


def test_network_policy_lets_the_operator_reach_an_api_server_on_the_ports_that_are_given() -> None:
    (policy,) = of_kind(render("networkPolicy.apiServerPorts={12345}"), "NetworkPolicy")
    ports = {rule["port"] for block in policy["spec"]["egress"] for rule in block["ports"]}
    assert ports == {53, 12345, 8001}


def test_a_service_monitor_scrapes_the_port_of_the_service_that_it_selects() -> None:
    objects = render("metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.labels.a=b")
    (monitor,) = of_kind(objects, "ServiceMonitor")
    (service,) = of_kind(objects, "Service")
    (endpoint,) = monitor["spec"]["endpoints"]
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    assert selector <= service["metadata"]["labels"].items()
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["metadata"]["labels"]["a"] == "b"
