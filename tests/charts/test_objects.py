"""Objects of the chart: well formed, labelled, selected and named."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from octavo_operator import smoke
from tests.support.operator.helm import (
    CHART,
    CRD,
    HELM,
    Object,
    environment,
    helm,
    named,
    of_kind,
    operator,
    read,
    render,
)


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


def test_the_pod_s_status_shows_the_operator_s_last_words() -> None:
    _, container = operator(render())
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


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


@pytest.mark.parametrize("release", ["octavo.v2", "team.a"])
def test_names_of_objects_are_names_whatever_the_release_and_the_alias_are(
    release: str, tmp_path: Path
) -> None:
    """A release's name may have dots, an alias of a dependency capitals and underscores."""
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "octavo")
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    dependency = {"name": "octavo", "version": version, "alias": "Llm_operator"}
    parts = {"apiVersion": "v2", "name": "parent", "version": "1.0.0"}
    (parent / "Chart.yaml").write_text(yaml.safe_dump({**parts, "dependencies": [dependency]}))
    for chart in (CHART, parent):
        done = helm("template", release, str(chart))
        assert done.returncode == 0, done.stderr
        made = read(done.stdout)
        # Rights outside the release's namespace name that, too: two releases may have one name.
        names = {each["metadata"]["name"].removesuffix(":default") for each in made} - {CRD}
        assert all(re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", each) for each in names), names


def test_a_release_after_which_no_service_can_be_named_is_refused() -> None:
    done = helm("template", "2024", str(CHART))
    assert "set fullnameOverride" in done.stderr
    assert helm("template", "2024", str(CHART), "--set", "fullnameOverride=o").returncode == 0


def test_a_common_label_that_a_role_has_itself_stands_there_once() -> None:
    to_view = "rbac.authorization.k8s.io/aggregate-to-view"
    values = yaml.safe_dump({"commonLabels": {to_view: "false"}})
    done = subprocess.run(
        [str(HELM), "template", "octavo", str(CHART), "--values", "-"],
        input=values,
        capture_output=True,
        text=True,
        check=True,
    )
    name = 'name: "octavo-operator-view:default"'
    roles = [each for each in done.stdout.split("---") if name in each]
    assert [each.count(to_view) for each in roles] == [1]
    assert yaml.safe_load(roles[0])["metadata"]["labels"][to_view] == "true"


def test_releases_have_a_lease_each_that_goes_with_the_pod_that_holds_it() -> None:
    names = set()
    for release in ("octavo", "team-b"):
        done = helm("template", release, str(CHART), "--namespace", "octavo-system")
        made = read(done.stdout)
        names.add(environment(made)["OCTAVO_OPERATOR_LEASE_NAME"])
        _, container = operator(made)
        (uid,) = [item for item in container["env"] if item["name"] == "OCTAVO_OPERATOR_POD_UID"]
        assert uid["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"
    assert names == {"octavo-operator", "team-b-octavo-operator"}


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


def test_one_replica_has_no_disruption_budget_that_would_block_a_drain() -> None:
    assert not of_kind(render("replicaCount=1"), "PodDisruptionBudget")
