"""Rights that the chart gives: to the operator what its table says, to users by the built-in roles."""

from __future__ import annotations

import pytest

from octavo_operator.rbac import NAMESPACED_RULES, OWN_NAMESPACE_RULES, Rule
from tests.support.operator.helm import (
    CHART,
    Object,
    environment,
    helm,
    named,
    of_kind,
    read,
    render,
)


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


def test_operator_may_do_exactly_what_its_table_says() -> None:
    objects = render()
    role = named(objects, "ClusterRole", "octavo-operator:octavo-system")
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


def test_users_get_llmdeployments_through_the_built_in_roles() -> None:
    objects = render()
    view = named(objects, "ClusterRole", "octavo-operator-view:octavo-system")
    assert {verb for _, _, verb in granted(view["rules"])} == {"get", "list", "watch"}
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    edit = named(objects, "ClusterRole", "octavo-operator-edit:octavo-system")
    assert ("octavo.dev", "llmdeployments/scale", "patch") in granted(edit["rules"])
    assert "rbac.authorization.k8s.io/aggregate-to-view" not in edit["metadata"]["labels"]
    names = {
        role["metadata"]["name"] for role in of_kind(render("rbac.aggregate=false"), "ClusterRole")
    }
    assert names == {"octavo-operator:octavo-system"}


def test_releases_of_one_name_in_two_namespaces_share_no_object() -> None:
    """Helm would refuse the second, and `kubectl apply` would take what the first has."""

    def places(namespace: str) -> set[tuple[str, str, str]]:
        settings = "--set=watchNamespaces={team},crds.install=false"
        done = helm("template", "octavo", str(CHART), "--namespace", namespace, settings)
        return {
            (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"])
            for each in read(done.stdout)
        }

    one, other = places("a"), places("b")
    assert ("Role", "team", "octavo-operator:a") in one
    assert not one & other
