"""Uninstall. The chart's own life, beside models that serve: a broken upgrade, its repair, an uninstall, a
return.

The last module: it changes the installation that all others share, and puts it back.
"""

from __future__ import annotations

import time

import pytest

from e2e.lib import clients
from e2e.lib.environment import Environment
from e2e.lib.explain import explain
from e2e.lib.install import OPERATOR, OPERATOR_NAMESPACE, RELEASE, upgrade_arguments
from e2e.lib.kubectl import Kubectl, Object
from e2e.lib.llmd import condition, is_ready, model_pods, wait_ready
from e2e.lib.wait import wait_for

# As long as a name may be: every child, label and pod name has to bear it.
NAME = "a" * 63
COMPONENT = "app.kubernetes.io/component=operator"
CRD = "llmdeployments.octavo.dev"
IN_ITS_NAMESPACE = f"--namespace={OPERATOR_NAMESPACE}"


def uids(pods: list[Object]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


@pytest.fixture(scope="module")
def serving(namespace: Kubectl, client: Kubectl) -> Kubectl:
    namespace.apply(
        {
            "apiVersion": "octavo.dev/v1alpha1",
            "kind": "LLMDeployment",
            "metadata": {"name": NAME},
            "spec": {
                "model": {"uri": "builtin://demo", "servedNames": ["demo"]},
                "resources": {"cpu": "100m"},
            },
        }
    )
    wait_ready(namespace, NAME)
    clients.await_client(client)
    return namespace


def of_the_release(kubectl: Kubectl) -> set[str]:
    """`kind/name` of all that bears the release's name in its namespace, whoever made it, and of all
    with its label that belongs to no namespace. Events are left out: they only tell what was."""
    system = kubectl.within(OPERATOR_NAMESPACE)
    named = system.run("get", ",".join(kinds(system, "true")), "--output=name").split()
    label = f"--selector=app.kubernetes.io/instance={RELEASE}"
    labelled = system.run("get", ",".join(kinds(system, "false")), label, "--output=name").split()
    return {name for name in named if RELEASE in name.partition("/")[2]} | set(labelled)


def kinds(kubectl: Kubectl, namespaced: str) -> list[str]:
    """All kinds that this API server can list."""
    flags = ("--verbs=list", f"--namespaced={namespaced}", "--output=name")
    found = kubectl.run("api-resources", *flags).split()
    return [kind for kind in found if not kind.startswith("events")]


def answer(kubectl: Kubectl) -> str:
    url = kubectl.must_get("llmd", NAME)["status"]["url"]
    return clients.ask(kubectl, url, "demo", "What is 17 plus 25?")


def test_a_name_of_63_characters_serves(serving: Kubectl) -> None:
    assert "42" in answer(serving)


def test_an_image_that_cannot_be_pulled_is_told_while_the_old_pods_serve_on(
    serving: Kubectl, environment: Environment
) -> None:
    before = model_pods(serving, NAME)
    arguments = upgrade_arguments(environment.images, environment.prometheus_url)
    broken = "--set-string=runtime.image.tag=no-such-tag"
    environment.helm.run(*arguments, broken)
    start = time.monotonic()
    try:
        seen = wait_for(
            "ImagePullFailed",
            lambda: condition(serving.must_get("llmd", NAME), "Degraded"),
            lambda degraded: degraded.is_true and degraded.reason == "ImagePullFailed",
            timeout_seconds=60,
            explain=lambda: explain(serving, NAME),
        )
        print(f"{seen} ({time.monotonic() - start:.1f} s after the upgrade)")
        assert "no-such-tag" in seen.message
        assert not condition(serving.must_get("llmd", NAME), "Ready").is_true
        assert "42" in answer(serving)
    finally:
        environment.helm.run(*arguments)
    wait_for(
        "the status to be well again",
        lambda: serving.must_get("llmd", NAME),
        lambda llmd: is_ready(llmd) and condition(llmd, "Degraded").status == "False",
        timeout_seconds=60,
        explain=lambda: explain(serving, NAME),
    )
    assert uids(model_pods(serving, NAME)) == uids(before), "the repair restarted a pod"


def test_of_two_operators_the_second_takes_over(serving: Kubectl, environment: Environment) -> None:
    arguments = upgrade_arguments(environment.images, environment.prometheus_url)
    environment.helm.run(*arguments, "--set=replicaCount=2")
    try:
        system = serving.within(OPERATOR_NAMESPACE)
        leader = system.must_get("lease", OPERATOR)["spec"]["holderIdentity"]
        pods = [pod["metadata"]["name"] for pod in system.list("pods", COMPONENT)]
        assert leader in pods
        assert len(pods) == 2
        system.delete("pod", leader, "--force", "--grace-period=0")
        start = time.monotonic()
        serving.merge_patch("llmd", NAME, {"spec": {"rollout": {"strategy": "RollingUpdate"}}})
        wait_ready(serving, NAME, timeout_seconds=60)
        print(f"the second operator acted {time.monotonic() - start:.0f} s after the first's end")
        assert system.must_get("lease", OPERATOR)["spec"]["holderIdentity"] != leader
    finally:
        environment.helm.run(*arguments)


def test_helm_test_passes_and_leaves_no_pod(octavo: Kubectl, environment: Environment) -> None:
    told = environment.helm.run("test", RELEASE, IN_ITS_NAMESPACE, "--timeout=2m")
    assert "Succeeded" in told
    wait_for(
        "the test's pod to be gone",
        lambda: of_the_release(octavo),
        lambda left: not any(name.endswith("-test") for name in left),
    )


def test_uninstalling_the_chart_leaves_the_models_serving_and_nothing_of_the_release(
    serving: Kubectl, environment: Environment
) -> None:
    before = model_pods(serving, NAME)
    expected = {
        f"deployment.apps/{OPERATOR}",
        f"lease.coordination.k8s.io/{OPERATOR}",
        f"clusterrole.rbac.authorization.k8s.io/{OPERATOR}:{OPERATOR_NAMESPACE}",
    }
    installed = wait_for(
        "an installation with a leader", lambda: of_the_release(serving), expected.issubset
    )
    environment.helm.run("uninstall", RELEASE, IN_ITS_NAMESPACE, "--wait", "--timeout=1m")
    try:
        start = time.monotonic()
        # What Kubernetes collects, the Lease among it, goes a moment after the pod that owned it.
        wait_for(
            "everything of the release to be gone",
            lambda: sorted(of_the_release(serving)),
            lambda left: not left,
            timeout_seconds=60,
        )
        print(f"{len(installed)} objects were gone {time.monotonic() - start:.1f} s later")
        assert serving.get("crd", CRD) is not None
        assert "42" in answer(serving)
    finally:
        environment.helm.run(*upgrade_arguments(environment.images, environment.prometheus_url))
    # The operator that came back is at work again, and has taken over what it found.
    serving.merge_patch("llmd", NAME, {"spec": {"rollout": {"strategy": "Auto"}}})
    wait_ready(serving, NAME)
    assert uids(model_pods(serving, NAME)) == uids(before)
