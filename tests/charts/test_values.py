"""Values of the chart: refused by name where they are wrong, and every one in the README."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from octavo_operator.api.quantity import parse_quantity
from tests.support.operator.helm import CHART, Object, helm, of_kind, operator, refusal, render

QUANTITIES = {
    "resources.requests.cpu": "/resources/requests/cpu",
    "resources.limits.memory": "/resources/limits/memory",
    r"resources.limits.example\.com/fast": "/resources/limits/example.com~1fast",
    "extraVolumes[0].emptyDir.sizeLimit": "/extraVolumes/0/emptyDir/sizeLimit",
    "extraVolumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests.storage": (
        "/extraVolumes/0/ephemeral/volumeClaimTemplate/spec/resources/requests/storage"
    ),
    "extraEnv[0].valueFrom.resourceFieldRef.divisor": "/extraEnv/0/valueFrom/resourceFieldRef/divisor",
}
"""Every value that is a quantity, and how a refusal names it."""
# A volume is of one kind.
TOGETHER = [name.replace("[0].ephemeral", "[1].ephemeral") for name in QUANTITIES]
QUANTITY_TEXTS = (
    *(
        "2",
        "0",
        "+1",
        ".5",
        "5.",
        "1e3",
        "1E-3",
        "100n",
        "7u",
        "500m",
        "3k",
        "2M",
        "1G",
        "1T",
        "1P",
        "1E",
    ),
    *(
        "1Ki",
        "512Mi",
        "1Gi",
        "1Ti",
        "1Pi",
        "1Ei",
        "",
        " ",
        "lots",
        "1K",
        "1mi",
        "1MB",
        "512mi",
        "0x10",
        ".",
    ),
    *("1 Gi", "1,5", "1_000", "NaN", "inf", "1e", "Gi", "--1", "-1", "1Gi ", "\u0661"),
)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("promethus.url=http://x", "'promethus' not allowed"),
        ("prometheus.address=http://x", "'address' not allowed"),
        ("prometheus.url=prometheus:9090", "/prometheus/url"),
        ("prometheus.url=http://user:secret@prometheus", "/prometheus/url"),
        ("prometheus.url=http://prometheus:65536", "/prometheus/url"),
        ("prometheus.url=http://[fd00::1]:0/select", "/prometheus/url"),
        ("replicaCount=-1", "/replicaCount"),
        ("nameOverride=Foo_Bar", "/nameOverride"),
        ("fullnameOverride=Foo_Bar", "/fullnameOverride"),
        ("fullnameOverride=true", "boolean: write --set-string fullnameOverride=true"),
        ("fullnameOverride=false", "boolean: write --set-string fullnameOverride=false"),
        ("nameOverride=12", "number: write --set-string nameOverride=12"),
        ("image.tag=2", "write --set-string image.tag=2"),
        ("runtime.image.tag=true", "write --set-string runtime.image.tag=true"),
        ("image.repository=ghcr.io/o/r:1.2", "without scheme, tag and digest"),
        (f"runtime.image.repository=ghcr.io/o/r@sha256:{'0' * 64}", "values of their own"),
        ("image.repository=https://ghcr.io/o/r", "/image/repository"),
        ("image.repository=ghcr.io/o/R", "/image/repository"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("runtime.image.tag=not a tag", "/runtime/image/tag"),
        ("watchNamespaces={Team_A}", "/watchNamespaces/0"),
        ("logLevel=loud", "/logLevel"),
        ("crds.keep=maybe", "/crds/keep"),
        ("networkPolicy.apiServerPorts={0}", "/networkPolicy/apiServerPorts/0"),
        ("runtime.downloadPorts={https}", "/runtime/downloadPorts/0"),
        ("image.digest=sha256:1", "/image/digest"),
        ("maxConcurrentRollouts=-1", "/maxConcurrentRollouts"),
        ("runtime.user=0", "/runtime/user"),
        ("runtime.user=root", "/runtime/user"),
        ("runtime.allowedImages={ghcr.io/o/r:1}", "/runtime/allowedImages/0"),
        ("prometheus.tenant=a b", "/prometheus/tenant"),
        ("prometheus.bearerToken.secretName=A_B", "/prometheus/bearerToken/secretName"),
        ("prometheus.bearerToken.token=x", "'token' not allowed"),
        ("extraEnv[0].nme=X", "'nme' not allowed"),
        ("extraVolumes[0].name=tmp", "neither tmp nor prometheus, which the chart has itself"),
        ("metrics.serviceMonitor.interval=often", "/metrics/serviceMonitor/interval"),
        *((f"{place}=lots", pointer) for place, pointer in QUANTITIES.items()),
        ("resources.limits.memory=-1", "/resources/limits/memory"),
        ("resources.limits.memory=true", "/resources/limits/memory"),
        ("tolerations[0]=null", "/tolerations/0"),
        ("podLabels.team=null", "/podLabels/team"),
        ("extraVolumeMounts[0].mountPath=null,extraVolumeMounts[0].name=x", "Mounts/0/mountPath"),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str, message: str) -> None:
    assert message in refusal(setting)


@pytest.mark.parametrize("tag", ["1e5", "1.10", "20261130"])
def test_how_a_number_was_written_is_not_made_up(tag: str, tmp_path: Path) -> None:
    """YAML reads 1e5 as 100000 and 1.10 as 1.1: who followed advice with those would pull another image."""
    file = tmp_path / "values.yaml"
    file.write_text(f"runtime: {{image: {{tag: {tag}}}}}", encoding="utf-8")
    done = helm("template", "octavo", str(CHART), "--values", str(file))
    assert "runtime.image.tag is" in done.stderr
    assert "put it in quotes where it stands" in done.stderr
    assert "--set-string" not in done.stderr


def test_what_breaks_a_form_is_told_what_to_write() -> None:
    """By an `else`: a pattern alone says nothing to who does not read patterns."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    forms = {f"#/$defs/{name}" for name in schema["$defs"] if re.match("is[A-Z]", name)}
    told = set()
    for where, node in nodes(schema):
        if {"pattern", "maxLength"} & node.keys():
            assert f"#/$defs/{where}" in forms, node
        if node.get("$ref") in forms and where != "if":
            assert node["if"] == {"$ref": node["$ref"]}
            assert not Draft202012Validator({**schema, "required": [], **node}).is_valid(
                node["else"]["const"]
            ), "the advice itself would be taken"
            told.add(node["$ref"])
    assert told == forms


def nodes(schema: Object, where: str = "") -> Iterator[tuple[str, Object]]:
    """Every object of the schema, with the name under which it stands."""
    yield where, schema
    for name, value in schema.items():
        if isinstance(value, dict):
            yield from nodes(value, name)


@pytest.mark.parametrize("value", ["0.5", "1", "512Mi", "500m", "1e3"])
def test_quantities_are_taken_as_text_and_as_numbers(value: str) -> None:
    """All places at once; that each is looked at shows in the refusals above."""
    render(
        "extraVolumes[0].name=scratch,extraVolumes[1].name=other,extraEnv[0].name=X",
        *(f"{place}={value}" for place in TOGETHER),
    )


def test_a_quantity_is_what_kubernetes_takes_for_one() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    pattern = re.compile(schema["$defs"]["isQuantity"]["pattern"], re.ASCII)
    for text in QUANTITY_TEXTS:
        try:
            parse_quantity(text)
            is_one = True
        except ValueError:
            is_one = False
        assert bool(pattern.search(text)) is is_one, text
    assert any(pattern.search(text) for text in QUANTITY_TEXTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("prometheus.bearerToken.secretName=x", "prometheus.bearerToken.serviceAccount=true"),
            "prometheus.bearerToken has a secretName and serviceAccount",
        ),
        (("prometheus.ca.secretName=x", "prometheus.ca.configMapName=y"), "prometheus.ca has"),
        (
            ("metrics.podMonitor.enabled=true", "metrics.serviceMonitor.enabled=true"),
            "enable one of them",
        ),
        (("extraEnv[0].name=OCTAVO_OPERATOR_NAMESPACE",), "OCTAVO_OPERATOR_NAMESPACE is set"),
        (("extraEnv[0].name=A", "extraEnv[1].name=A"), "A is set by the chart, or given twice"),
        (
            (f"image.digest=sha256:{'0' * 64}", f"image.tag=sha256:{'1' * 64}"),
            "give one of them",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    settings: tuple[str, ...], message: str
) -> None:
    assert message in refusal(*settings)


def test_a_service_account_that_is_not_made_must_be_named() -> None:
    assert "serviceAccount.name is empty" in refusal("serviceAccount.create=false")
    objects = render("serviceAccount.create=false", "serviceAccount.name=mine")
    assert not of_kind(objects, "ServiceAccount")
    pod, _ = operator(objects)
    assert pod["serviceAccountName"] == "mine"


def paths(values: Object, prefix: str = "") -> set[str]:
    """The dotted paths of all values; an empty map is a value."""
    found: set[str] = set()
    for name, value in values.items():
        inner = paths(value, f"{prefix}{name}.") if isinstance(value, dict) else set()
        found |= inner or {f"{prefix}{name}"}
    return found


def documented_values() -> set[str]:
    """The paths of the README's table, where `.name` stands for a neighbour of the value before it."""
    table = (CHART / "README.md").read_text().split("## Values")[1].split("\n## ")[0]
    found: list[str] = []
    for cell in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE):
        for name in re.findall(r"`([\w.*]+)`", cell):
            parent = found[-1].rpartition(".")[0] if name.startswith(".") else ""
            found.append(parent + name)
    return set(found)


def test_every_value_is_in_the_readme_and_every_value_there_exists() -> None:
    values = paths(yaml.safe_load((CHART / "values.yaml").read_text()))
    documented = {name.removesuffix(".*") for name in documented_values()}
    assert len(documented) > 25
    for name in documented:
        assert any(value == name or value.startswith(f"{name}.") for value in values), name
    for value in values:
        assert any(value == name or value.startswith(f"{name}.") for name in documented), value


OF_KUBERNETES = {"resources"}
"""Whose own keys may be taken away."""
OF_THE_CLUSTER = {"podSecurityContext.runAsUser", "podSecurityContext.runAsGroup"}
"""What OpenShift chooses itself, and wants null."""


def test_a_null_is_refused_where_it_would_undo_a_default() -> None:
    """Helm drops the keys of nulls before it reads the schema, and a template would see nothing at all."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    known = dict(_values(defaults))
    # Whose zero and false mean what their absence does not.
    telling = {"maxConcurrentRollouts", "securityContext.allowPrivilegeEscalation"}
    empty = {name for name, value in known.items() if not value} - telling
    assert render(*(f"{name}=null" for name in empty)) == render()
    meant = set(known) - empty - OF_THE_CLUSTER
    for name in (*OF_THE_CLUSTER, "resources.limits", "resources.limits.memory"):
        render(f"{name}=null")
    levels = sorted({name.count(".") for name in meant})
    assert levels == [0, 1, 2]
    for level in levels:  # a null above would take those below with it
        some = {name for name in meant if name.count(".") == level}
        told = refusal(*(f"{name}=null" for name in some))
        refused = {
            f"{path.strip('/').replace('/', '.')}.{key}".strip(".")
            for path, keys in re.findall(r"at '([^']*)': missing propert(?:y|ies) (.*)", told)
            for key in re.findall(r"'([^']+)'", keys)
        }
        assert refused == some


def _values(values: Object, above: str = "") -> Iterator[tuple[str, object]]:
    """Each with the name that `--set` takes, those that hold others among them."""
    for key, value in values.items():
        yield f"{above}{key}", value
        if isinstance(value, dict) and key not in OF_KUBERNETES:
            yield from _values(value, f"{above}{key}.")
