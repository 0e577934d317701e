"""The chart renders what it promises, and refuses what it does not know."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from octavo_operator import smoke
from octavo_operator.api.quantity import parse_quantity
from octavo_operator.rbac import NAMESPACED_RULES, OWN_NAMESPACE_RULES, Rule
from tests.support.requirements import Requirement, lacks

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "octavo"
CRD = "llmdeployments.octavo.dev"

Object = dict[str, Any]


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


def _find_helm() -> str | None:
    cache = Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo")
    cached = sorted(cache.glob("bin/helm-*/helm"))
    return str(cached[-1]) if cached else shutil.which("helm")


HELM = _find_helm()
if HELM is None:
    lacks(Requirement.HELM, "helm is not here: make cluster-up builds it")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)


def render(*settings: str) -> list[Object]:
    flags = [word for setting in settings for word in ("--set", setting)]
    done = helm("template", "octavo", str(CHART), "--namespace", "octavo-system", *flags)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def refusal(*settings: str) -> str:
    flags = [word for setting in settings for word in ("--set", setting)]
    done = helm("template", "octavo", str(CHART), *flags)
    assert done.returncode != 0, f"the chart accepted {settings}"
    return done.stderr


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [item for item in objects if item["kind"] == kind]


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found


def operator(objects: list[Object]) -> tuple[Object, Object]:
    """The operator's pod spec and its one container."""
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def environment(objects: list[Object]) -> dict[str, str]:
    _, container = operator(objects)
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}


def granted(rules: list[Object]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def needed(rules: tuple[Rule, ...]) -> set[tuple[str, str, str]]:
    return {
        (rule.api_group, resource, verb)
        for rule in rules
        for resource in rule.resources
        for verb in rule.verbs
    }


def test_lint_is_clean() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


def test_operator_meets_the_restricted_pod_security_standard() -> None:
    pod, container = operator(render())
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all("hostPath" not in volume for volume in pod["volumes"])


def test_operator_may_do_exactly_what_its_table_says() -> None:
    objects = render()
    role = named(objects, "ClusterRole", "octavo-operator")
    assert granted(role["rules"]) == needed(NAMESPACED_RULES)
    leader = named(objects, "Role", "octavo-operator-leader")
    assert granted(leader["rules"]) == needed(OWN_NAMESPACE_RULES)
    assert leader["metadata"]["namespace"] == "octavo-system"


@pytest.mark.parametrize("settings", [(), ("watchNamespaces={a,b}",)])
def test_no_role_has_a_verb_on_secrets_or_a_wildcard(settings: tuple[str, ...]) -> None:
    objects = render(*settings)
    roles = of_kind(objects, "ClusterRole") + of_kind(objects, "Role")
    assert roles
    for role in roles:
        for group, resource, verb in granted(role["rules"]):
            assert resource != "secrets"
            assert "*" not in (group, resource, verb)


def test_watched_namespaces_get_a_role_each_and_no_cluster_role() -> None:
    objects = render("watchNamespaces={team-a,team-b}", "rbac.aggregate=false")
    assert not of_kind(objects, "ClusterRole")
    assert not of_kind(objects, "ClusterRoleBinding")
    for namespace in ("team-a", "team-b"):
        (role,) = [r for r in of_kind(objects, "Role") if r["metadata"]["namespace"] == namespace]
        assert granted(role["rules"]) == needed(NAMESPACED_RULES)
        (binding,) = [
            b for b in of_kind(objects, "RoleBinding") if b["metadata"]["namespace"] == namespace
        ]
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        assert binding["subjects"][0]["namespace"] == "octavo-system"
    assert environment(objects)["OCTAVO_OPERATOR_WATCH_NAMESPACES"] == "team-a,team-b"


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


def test_variables_and_volumes_of_the_user_s_stand_beside_the_chart_s() -> None:
    objects = render(
        "extraEnv[0].name=HTTPS_PROXY",
        "extraEnv[0].value=http://proxy:3128",
        "extraEnv[1].name=OCTAVO_OPERATOR_RESYNC_SECONDS",
        "extraEnv[1].value=60.0",
        "extraVolumes[0].name=certs",
        "extraVolumes[0].configMap.name=certs",
        "extraVolumeMounts[0].name=certs",
        "extraVolumeMounts[0].mountPath=/certs",
    )
    pod, container = operator(objects)
    assert environment(objects).items() >= {"HTTPS_PROXY": "http://proxy:3128"}.items()
    names = [each["name"] for each in container["env"]]
    assert len(names) == len(set(names))
    assert {"name": "certs", "configMap": {"name": "certs"}} in pod["volumes"]
    assert {"name": "certs", "mountPath": "/certs"} in container["volumeMounts"]


def test_common_labels_are_on_every_object_and_select_nothing() -> None:
    objects = render(
        "commonLabels.team=red",
        r"commonLabels.app\.kubernetes\.io/name=other",
        "podLabels.team=blue",
        "replicaCount=2",
        "metrics.serviceMonitor.enabled=true",
    )
    for item in objects:
        assert item["metadata"]["labels"]["team"] == "red", item["kind"]
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["template"]["metadata"]["labels"]["team"] == "blue"
    selectors = [item["spec"]["selector"] for item in objects if "selector" in item.get("spec", {})]
    assert selectors
    assert "team" not in str(selectors)
    of_chart = [item for item in objects if item["kind"] != "CustomResourceDefinition"]
    assert "other" not in str([item["metadata"]["labels"] for item in of_chart])


def test_the_pod_s_user_can_be_left_to_the_cluster() -> None:
    objects = render("podSecurityContext.runAsUser=null", "podSecurityContext.runAsGroup=null")
    pod, _ = operator(objects)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_labels_and_annotations_of_the_user_s_are_merged_and_never_unselect_the_pods() -> None:
    objects = render(
        r"podAnnotations.prometheus\.io/scrape=off",
        r"podAnnotations.example\.com/team=blue",
        r"podLabels.app\.kubernetes\.io/version=pinned",
        r"podLabels.app\.kubernetes\.io/name=other",
        "podLabels.team=blue",
    )
    (deployment,) = of_kind(objects, "Deployment")
    metadata = deployment["spec"]["template"]["metadata"]
    assert metadata["annotations"] == {
        "prometheus.io/scrape": "off",
        "prometheus.io/port": "8080",
        "prometheus.io/path": "/metrics",
        "example.com/team": "blue",
    }
    assert metadata["labels"]["app.kubernetes.io/version"] == "pinned"
    assert metadata["labels"]["team"] == "blue"
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= metadata["labels"].items()
    assert selector["app.kubernetes.io/name"] == "octavo"


def test_labels_and_annotations_that_are_null_are_none() -> None:
    objects = render(
        "podLabels=null",
        "podAnnotations=null",
        "metrics.podMonitor.enabled=true",
        "metrics.podMonitor.labels=null",
        "commonLabels=null",
        "deploymentAnnotations=null",
    )
    assert objects == render("metrics.podMonitor.enabled=true")


def test_no_manifest_has_a_key_twice() -> None:
    """PyYAML takes the last of two; the API server refuses them."""

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Object:
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"twice: {keys}"
        return {str(key): value for key, value in loader.construct_mapping(node, deep=True).items()}

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    done = helm(
        "template",
        "octavo",
        str(CHART),
        "--set",
        r"podAnnotations.prometheus\.io/port=x,podLabels.app\.kubernetes\.io/part-of=x",
        "--set",
        r"metrics.podMonitor.enabled=true,metrics.podMonitor.labels.app\.kubernetes\.io/part-of=x",
    )
    assert done.returncode == 0, done.stderr
    assert list(yaml.load_all(done.stdout, Loader=Strict))


def test_no_replica_at_all_is_allowed() -> None:
    (deployment,) = of_kind(render("replicaCount=0"), "Deployment")
    assert deployment["spec"]["replicas"] == 0


def test_crd_can_be_kept_removed_or_left_to_somebody_else() -> None:
    keep = {"helm.sh/resource-policy": "keep"}
    definition = named(render(), "CustomResourceDefinition", CRD)
    assert definition["metadata"]["annotations"].items() >= keep.items()
    definition = named(render("crds.keep=false"), "CustomResourceDefinition", CRD)
    assert not keep.keys() & (definition["metadata"].get("annotations") or {}).keys()
    assert not of_kind(render("crds.install=false"), "CustomResourceDefinition")


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
    (within,) = [block for block in policy["spec"]["egress"] if "to" in block]
    (peer,) = within["to"]
    assert peer == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    }
    assert within["ports"] == [{"port": 1, "endPort": 65535, "protocol": "TCP"}]


def test_network_policy_lets_the_operator_reach_an_api_server_on_the_ports_that_are_given() -> None:
    (policy,) = of_kind(render("networkPolicy.apiServerPorts={12345}"), "NetworkPolicy")
    ports = {rule["port"] for block in policy["spec"]["egress"] for rule in block["ports"]}
    assert ports == {53, 12345}


def test_releases_have_a_lease_each_that_goes_with_the_pod_that_holds_it() -> None:
    names = set()
    for release in ("octavo", "team-b"):
        done = helm("template", release, str(CHART), "--namespace", "octavo-system")
        objects = [document for document in yaml.safe_load_all(done.stdout) if document]
        names.add(environment(objects)["OCTAVO_OPERATOR_LEASE_NAME"])
        _, container = operator(objects)
        (uid,) = [item for item in container["env"] if item["name"] == "OCTAVO_OPERATOR_POD_UID"]
        assert uid["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"
    assert names == {"octavo-operator", "team-b-octavo-operator"}


def test_ports_of_downloads_reach_the_operator() -> None:
    assert environment(render())["OCTAVO_OPERATOR_DOWNLOAD_PORTS"] == "443"
    objects = render("runtime.downloadPorts={443,3128}")
    assert environment(objects)["OCTAVO_OPERATOR_DOWNLOAD_PORTS"] == "443,3128"


def test_helm_test_runs_what_the_operator_s_image_has_against_the_operator_s_service() -> None:
    objects = render("watchNamespaces={a,b}")
    (pod,) = of_kind(objects, "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    own, own_container = operator(objects)
    assert container["image"] == own_container["image"]
    assert container["command"] == ["python", "-m", smoke.__name__]
    url, *namespaces = container["args"]
    (service,) = of_kind(objects, "Service")
    (port,) = service["spec"]["ports"]
    assert url == f"http://{service['metadata']['name']}.octavo-system.svc:{port['port']}"
    assert namespaces == ["--namespace=a", "--namespace=b"]
    # What selects the operator's pods must not select this one.
    assert not service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["securityContext"] == own["securityContext"]
    assert container["securityContext"] == own_container["securityContext"]
    assert pod["spec"]["serviceAccountName"] == own["serviceAccountName"]


def test_selectors_meet_the_pods() -> None:
    objects = render("replicaCount=2", "metrics.podMonitor.enabled=true")
    (deployment,) = of_kind(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    (service,) = of_kind(objects, "Service")
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    (policy,) = of_kind(objects, "NetworkPolicy")
    (monitor,) = of_kind(objects, "PodMonitor")
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        budget["spec"]["selector"]["matchLabels"],
        policy["spec"]["podSelector"]["matchLabels"],
        monitor["spec"]["selector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels


def test_a_service_monitor_scrapes_the_port_of_the_service_that_it_selects() -> None:
    objects = render("metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.labels.a=b")
    (monitor,) = of_kind(objects, "ServiceMonitor")
    (service,) = of_kind(objects, "Service")
    (endpoint,) = monitor["spec"]["endpoints"]
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    assert selector <= service["metadata"]["labels"].items()
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["metadata"]["labels"]["a"] == "b"


def test_one_replica_has_no_disruption_budget_that_would_block_a_drain() -> None:
    assert not of_kind(render("replicaCount=1"), "PodDisruptionBudget")


def test_users_get_llmdeployments_through_the_built_in_roles() -> None:
    objects = render()
    view = named(objects, "ClusterRole", "octavo-operator-view")
    assert {verb for _, _, verb in granted(view["rules"])} == {"get", "list", "watch"}
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    edit = named(objects, "ClusterRole", "octavo-operator-edit")
    assert ("octavo.dev", "llmdeployments/scale", "patch") in granted(edit["rules"])
    assert "rbac.authorization.k8s.io/aggregate-to-view" not in edit["metadata"]["labels"]
    names = {
        role["metadata"]["name"] for role in of_kind(render("rbac.aggregate=false"), "ClusterRole")
    }
    assert names == {"octavo-operator"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("promethus.url=http://x", "'promethus' not allowed"),
        ("prometheus.address=http://x", "'address' not allowed"),
        ("prometheus.url=prometheus:9090", "/prometheus/url"),
        ("prometheus.url=http://user:secret@prometheus", "/prometheus/url"),
        ("replicaCount=-1", "/replicaCount"),
        ("nameOverride=Foo_Bar", "/nameOverride"),
        ("fullnameOverride=Foo_Bar", "/fullnameOverride"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("runtime.image.tag=not a tag", "/runtime/image/tag"),
        ("watchNamespaces={Team_A}", "/watchNamespaces/0"),
        ("logLevel=loud", "/logLevel"),
        ("crds.keep=maybe", "/crds/keep"),
        ("networkPolicy.apiServerPorts={0}", "/networkPolicy/apiServerPorts/0"),
        ("runtime.downloadPorts={https}", "/runtime/downloadPorts/0"),
        ("image.digest=sha256:1", "/image/digest"),
        ("maxConcurrentRollouts=-1", "/maxConcurrentRollouts"),
        ("runtime.allowedImages={ghcr.io/o/r:1}", "/runtime/allowedImages/0"),
        ("prometheus.tenant=a b", "/prometheus/tenant"),
        ("prometheus.bearerToken.secretName=A_B", "/prometheus/bearerToken/secretName"),
        ("prometheus.bearerToken.token=x", "'token' not allowed"),
        ("extraEnv[0].nme=X", "'nme' not allowed"),
        ("extraVolumes[0].name=tmp", "/extraVolumes/0/name"),
        ("metrics.serviceMonitor.interval=often", "/metrics/serviceMonitor/interval"),
        *((f"{place}=lots", pointer) for place, pointer in QUANTITIES.items()),
        ("resources.limits.memory=-1", "/resources/limits/memory"),
        ("resources.limits.memory=true", "/resources/limits/memory"),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str, message: str) -> None:
    assert message in refusal(setting)


@pytest.mark.parametrize("place", QUANTITIES)
def test_quantities_are_taken_as_text_and_as_numbers(place: str) -> None:
    for value in ("0.5", "1", "512Mi", "500m", "1e3"):
        render(f"extraVolumes[0].name=scratch,extraEnv[0].name=X,{place}={value}")


def test_a_quantity_is_what_kubernetes_takes_for_one() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    pattern = re.compile(schema["$defs"]["quantity"]["pattern"], re.ASCII)
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
